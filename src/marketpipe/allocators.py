"""How much memory that nothing uses the libraries below us keep.

Arrow and `deltalake` each bring an allocator that keeps what was freed, for each of their threads,
so that a lake that is flushed every few seconds holds on to the peaks of all. They, and NumPy, read
their options once, when they are loaded.
"""

import os
from typing import Final

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


def settle_allocators() -> None:
    """Set the options, before the libraries are loaded; what the user has set stays as it is."""
    for name, value in OPTIONS.items():
        os.environ.setdefault(name, value)
