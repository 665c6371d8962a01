"""Takes a recording of a feed: one frame a line, behind its time of receipt.

Gives the journal records that the feed itself would have given.
Never parses a message, never waits.
"""

from marketpipe.sources.recorded.client import Recording

__all__ = ["Recording"]
