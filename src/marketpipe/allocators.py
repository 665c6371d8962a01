"""How much memory that nothing uses the libraries below us keep.

Arrow and `deltalake` each bring an allocator that keeps what was freed, for each of their threads,
so that a lake that is flushed every few seconds holds on to the peaks of all. They, and NumPy, read
their options once, when they are loaded; the C library makes a heap for a thread that first asks
for memory while all others are taken, and never unmakes it.
"""

import ctypes
import os
import sys
from functools import cache
from typing import Any, Final

OPTIONS: Final = {
    # Arrow takes its memory from the C library, which gives it back when told to
    # (`marketpipe.pipelines.memory`); its own allocator (mimalloc) kept 100 MB more between the
    # flushes of 20,000 messages a second.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    # jemalloc of `deltalake`: soaks with these options and few heaps of the C library, and
    # without, side by side, differed by 40 to 70 MB.
    "_RJEM_MALLOC_CONF": "narenas:2,dirty_decay_ms:0,muzzy_decay_ms:0",
    # NumPy asks for huge pages for its larger arrays: room that is left for growth becomes memory
    # bit by bit, as the system puts pages together. The live path takes no more CPU without.
    "NUMPY_MADVISE_HUGEPAGE": "0",
}
_HEAPS_OPTION: Final = "MALLOC_ARENA_MAX"
_TUNABLES: Final = ("GLIBC_TUNABLES", "glibc.malloc.arena_max")
_M_ARENA_MAX: Final = -8
_HEAPS: Final = 1
"""Of the C library. Of any but the first, up to 64 MB at its end stay when memory is given back."""


def settle_allocators() -> None:
    """Set the options, before the libraries are loaded; what the user has set stays as it is.

    The C library looks at the number of heaps once, when a second thread asks for memory: in a
    program that had threads before it imported MarketPipe there are as many as it likes.
    """
    for name, value in OPTIONS.items():
        os.environ.setdefault(name, value)
    tunables, heaps = _TUNABLES
    told = _HEAPS_OPTION in os.environ or heaps in os.environ.get(tunables, "")
    if not told and (library := c_library()) is not None:
        library.mallopt(_M_ARENA_MAX, _HEAPS)


@cache
def c_library() -> Any:
    """Return the C library where it is glibc, else None."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
