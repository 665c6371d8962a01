"""Takes any source of trades, or a tick CSV.

Gives its ticks one by one in event order, or (`messages`) its lines as those of a live feed.
Never opens a socket, never sleeps unless it is handed a way to.
"""

from marketpipe.sources.mock.client import MockConnector, MockTick

__all__ = ["MockConnector", "MockTick"]
