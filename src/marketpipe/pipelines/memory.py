"""Giving memory back to the system after much of it was used at once."""

import ctypes
import sys
from functools import cache
from typing import Any

import pyarrow as pa


def give_back() -> None:
    """Return what the allocators hold and nothing uses.

    A flush of the lake takes hundreds of megabytes for a moment, in threads of its own. The C
    library keeps such pages for each thread, in pieces, so that memory creeps up for hours though
    nothing leaks; where the system has ``malloc_trim``, it is told to let them go.
    """
    pa.default_memory_pool().release_unused()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
