"""Takes a Parquet file of ticks with the columns of the tick CSV, in any exact or float type.

Gives batches of trades or quotes, and every bad row with its number and reason.
Never rounds, never reads columns it does not need, never holds more than a batch.
"""

from marketpipe.sources.parquet.source import ParquetSource

__all__ = ["ParquetSource"]
