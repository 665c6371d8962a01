"""Giving memory back to the system after much of it was used at once."""

import ctypes
import sys
from functools import cache
from typing import Any, Final

import pyarrow as pa

_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2


def use_few_arenas() -> None:
    """Have the C library keep few heaps, however many threads there are.

    It keeps up to eight for each core, and what one thread freed in one is not used by another.
    """
    if (library := _c_library()) is not None:
        library.mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return what the allocators hold and nothing uses.

    A flush of the lake takes hundreds of megabytes for a moment, in threads of its own. The C
    library keeps such pages for each thread, in pieces, so that memory creeps up for hours though
    nothing leaks; where the system has ``malloc_trim``, it is told to let them go.
    """
    pa.default_memory_pool().release_unused()
    if (library := _c_library()) is not None:
        library.malloc_trim(0)


@cache
def _c_library() -> Any:
    """Return the C library where it is glibc, else None."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
