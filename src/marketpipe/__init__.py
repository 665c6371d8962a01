"""MarketPipe: market data that can be trusted.

Takes ticks; gives bars, and the proof of them. Never reads a clock in its core.
"""

from typing import TYPE_CHECKING, Any

from marketpipe.allocators import settle_allocators
from marketpipe.compiled import settle_cache

if TYPE_CHECKING:
    from marketpipe.access import open_lake as open  # noqa: A004 - the name that users type
    from marketpipe.lake import Lake
    from marketpipe.settings import Settings

__all__ = ["Lake", "Settings", "open"]

settle_allocators()
settle_cache()


def __getattr__(name: str) -> Any:
    # Imported when asked for: what builds bars in another program needs none of it.
    if name == "open":
        from marketpipe.access import open_lake

        return open_lake
    if name == "Lake":
        from marketpipe.lake import Lake

        return Lake
    if name == "Settings":
        from marketpipe.settings import Settings

        return Settings
    raise AttributeError(f"module 'marketpipe' has no attribute {name!r}")
