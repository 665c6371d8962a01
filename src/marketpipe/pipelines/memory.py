"""Giving memory back to the system after much of it was used at once."""

import pyarrow as pa

from marketpipe.allocators import c_library


def give_back() -> None:
    """Return what the allocators hold and nothing uses.

    A flush of the lake takes hundreds of megabytes for a moment. The C library keeps such pages, in
    pieces, so that memory creeps up for hours though nothing leaks; where the system has
    ``malloc_trim``, it is told to let them go.
    """
    pa.default_memory_pool().release_unused()
    if (library := c_library()) is not None:
        library.malloc_trim(0)
