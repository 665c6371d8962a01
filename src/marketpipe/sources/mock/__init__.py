"""Takes any source of trades, or a tick CSV; gives its ticks one by one in event order.

Never opens a socket, never sleeps unless it is handed a way to.
"""

from marketpipe.sources.mock.client import MockConnector, MockTick

__all__ = ["MockConnector", "MockTick"]
