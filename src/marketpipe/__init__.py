"""MarketPipe: market data that can be trusted.

Takes ticks; gives bars, and the proof of them. Never reads a clock in its core.
"""

from marketpipe.compiled import settle_cache

settle_cache()
