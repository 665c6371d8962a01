"""The lake: Delta tables of raw records, canonical ticks, bars and quarantined rows.

Takes rows in the domain's schemas. Gives tables in which each row is once, as of any time.
Never changes a row; never holds a market rule.
"""

from marketpipe.lake.budget import DiskBudget, usage
from marketpipe.lake.compaction import Compaction, compact, vacuum
from marketpipe.lake.datafiles import Compression
from marketpipe.lake.instants import Instant, instant_ns
from marketpipe.lake.layout import TABLES, LakeLayout, TableSpec
from marketpipe.lake.lease import lease
from marketpipe.lake.reading import Lake
from marketpipe.lake.retention import drop_before, first_day_kept
from marketpipe.lake.sandbox import SqlLimits
from marketpipe.lake.spans import Span, spans
from marketpipe.lake.table import LakeTable, Predicate, TableCommit
from marketpipe.lake.views import Knowledge

__all__ = [
    "TABLES",
    "Compaction",
    "Compression",
    "DiskBudget",
    "Instant",
    "Knowledge",
    "Lake",
    "LakeLayout",
    "LakeTable",
    "Predicate",
    "Span",
    "SqlLimits",
    "TableCommit",
    "TableSpec",
    "compact",
    "drop_before",
    "first_day_kept",
    "instant_ns",
    "lease",
    "spans",
    "usage",
    "vacuum",
]
