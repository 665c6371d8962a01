"""Takes a tick CSV, plain or packed, from a path or a stream, or its lines from a journal.

Gives batches of trades or quotes, and every bad line with its number and reason.
Never rounds, never loses a line, never holds more than a batch and a block.
"""

from marketpipe.sources.csvfile.lines import LineReader, Lines
from marketpipe.sources.csvfile.parse import CsvParser
from marketpipe.sources.csvfile.source import CsvSource

__all__ = ["CsvParser", "CsvSource", "LineReader", "Lines"]
