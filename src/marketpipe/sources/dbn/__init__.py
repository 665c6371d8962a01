"""Takes Databento's DBN files of trades or top-of-book quotes; needs the extra ``dbn``.

Gives batches of trades or quotes, and every bad record with its number and reason.
Never guesses a symbol, never takes a record for what it is not.
"""

from marketpipe.sources.dbn.source import DbnSource

__all__ = ["DbnSource"]
