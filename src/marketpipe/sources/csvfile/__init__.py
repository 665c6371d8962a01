"""Takes a tick CSV, plain or packed, from a path or a stream.

Gives batches of trades or quotes, and every bad line with its number and reason.
Never rounds, never loses a line, never holds more than a batch and a block.
"""

from marketpipe.sources.csvfile.source import CsvSource

__all__ = ["CsvSource"]
