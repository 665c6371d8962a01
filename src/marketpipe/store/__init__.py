"""Takes bars, checkpoints, findings, gaps; gives them back, as of any time, and bars as an outbox.

Never changes a bar, knows a market rule, or answers an error with an empty result.
"""

from marketpipe.store.cache import BarCache, CacheCounts
from marketpipe.store.checkpoints import Checkpoint, CheckpointStore
from marketpipe.store.database import Database
from marketpipe.store.findings import FindingsStore
from marketpipe.store.gaps import GapEntry, GapState, GapStore
from marketpipe.store.laketier import LakeBars
from marketpipe.store.query import BarQuery, Series
from marketpipe.store.repository import BarRepository
from marketpipe.store.rows import OUTBOX
from marketpipe.store.tiered import TieredBarStore

__all__ = [
    "OUTBOX",
    "BarCache",
    "BarQuery",
    "BarRepository",
    "CacheCounts",
    "Checkpoint",
    "CheckpointStore",
    "Database",
    "FindingsStore",
    "GapEntry",
    "GapState",
    "GapStore",
    "LakeBars",
    "Series",
    "TieredBarStore",
]
