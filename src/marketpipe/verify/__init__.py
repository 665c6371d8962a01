"""Takes bars of the bars schema, CSV files of bars, raw tick files.

Gives canonical exports, digest trees, comparisons, independently recomputed bars, manifests.
Never uses code of what it verifies, beyond the schemas; never changes a bar.
"""

from marketpipe.verify.comparator import BarComparator
from marketpipe.verify.comparison import BarKey, CellDifference, Comparison
from marketpipe.verify.confirm import confirm
from marketpipe.verify.digest import BarDifference, DigestTree, LeafPath, first_difference
from marketpipe.verify.exporter import CanonicalExporter
from marketpipe.verify.manifest import RunInput, RunManifest
from marketpipe.verify.recompute import Recomputed, recompute

__all__ = [
    "BarComparator",
    "BarDifference",
    "BarKey",
    "CanonicalExporter",
    "CellDifference",
    "Comparison",
    "DigestTree",
    "LeafPath",
    "Recomputed",
    "RunInput",
    "RunManifest",
    "confirm",
    "first_difference",
    "recompute",
]
