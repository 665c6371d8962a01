"""Takes Arrow record batches with the columns of the tick files, in any exact or float type.

Gives batches of trades or quotes, and every bad row with its number and reason.
Never rounds, never reads columns it does not need, never opens a file.
"""

from marketpipe.domain.tables.reader import TableReader

__all__ = ["TableReader"]
