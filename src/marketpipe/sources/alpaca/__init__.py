"""Takes journal records of Alpaca's stock and crypto streams and of its history, JSON or msgpack.

Gives trades, quotes, books, statuses, the vendor's bars and corrections, and what is bad.
Never rounds a price or size, never fails on a message.
"""

from marketpipe.sources.alpaca.decode import symbol_reader
from marketpipe.sources.alpaca.parse import AlpacaParser

__all__ = ["AlpacaParser", "symbol_reader"]
