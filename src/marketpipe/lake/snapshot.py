"""Which files a table of the lake consists of right now, and which of them can hold an answer."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Final
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from marketpipe.domain.buckets import bucket_of
from marketpipe.errors import LakeError
from marketpipe.lake.evolution import BUCKET_COUNT, version_of_table
from marketpipe.lake.layout import TableSpec

_PATH: Final = "path"
_REOPEN_AFTER: Final = 20
_NOTHING: Final = pl.DataFrame(schema={_PATH: pl.String})


@dataclass(frozen=True, slots=True)
class Files:
    """Data files to read together.

    Attributes
    ----------
    paths : absolute, sorted
    evolved : whether some of them may lack columns that others have
    """

    paths: tuple[str, ...] = ()
    evolved: bool = False

    def __bool__(self) -> bool:
        return bool(self.paths)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a read asks of a table, as far as it can rule out whole files.

    Attributes
    ----------
    symbols : none means all
    column : the column of instants that ``start`` (inclusive) and ``end`` (exclusive) bound
    start, end : ns since the epoch; None means open
    dates : of partitions, as ISO 8601; None means all
    """

    symbols: Collection[str] = ()
    column: str = ""
    start: int | None = None
    end: int | None = None
    dates: Collection[str] | None = None


@dataclass(slots=True)
class LiveTable:
    """A table that others write while we read it: every call sees its newest version.

    Safe to use from several threads.
    """

    spec: TableSpec
    folder: Path
    _handle: DeltaTable | None = None
    _opened_at: int = 0
    _lock: Lock = field(default_factory=Lock)

    def files(self, wanted: Wanted | None = None) -> Files:
        """List the files that can hold rows of a read; none where there is no table yet.

        Files are ruled out by their partition and by the least and greatest symbol and instant
        that the table's log knows of them; a file of which it knows nothing stays.

        Raises
        ------
        LakeError
            If the table cannot be opened.
        NewerVersionError
            If a newer version of MarketPipe wrote it.
        """
        with self._lock:
            found, buckets = self._adds()
        if found.is_empty():
            return Files()
        kept = found if wanted is None else found.filter(_may_hold(found.columns, wanted, buckets))
        paths = (str(self.folder / unquote(path)) for path in kept[_PATH])
        return Files(tuple(sorted(paths)), _is_evolved(kept))

    def dates(self, files: Files) -> set[str]:
        """Return the dates of the partitions that hold the files, as ISO 8601."""
        prefix = f"{self.spec.date_column}="
        parts = (part for path in files.paths for part in Path(path).parts)
        return {part.removeprefix(prefix) for part in parts if part.startswith(prefix)}

    def forget(self) -> None:
        """Open the table anew next time: it may have been removed and made again."""
        with self._lock:
            self._handle = None

    def _adds(self) -> tuple[pl.DataFrame, int | None]:
        """Return what the log says of each live file, and the number of buckets."""
        try:
            handle = self._refreshed()
            if handle is None:
                return _NOTHING, None
            found = pl.from_arrow(pa.table(handle.get_add_actions(flatten=True)))
            buckets = handle.metadata().configuration.get(BUCKET_COUNT)
        except (DeltaError, OSError) as error:
            self._handle = None
            raise LakeError(
                f"table {self.spec.name}: {self.folder} cannot be opened ({error}); "
                "check the folder, or rebuild the table from the raw layer"
            ) from error
        if not isinstance(found, pl.DataFrame):
            return _NOTHING, None
        return found, None if buckets is None else int(buckets)

    def _refreshed(self) -> DeltaTable | None:
        handle = self._handle
        if handle is not None:
            handle.update_incremental()
            # A handle slows down with every commit since it was opened.
            if handle.version() < self._opened_at + _REOPEN_AFTER:
                return handle
        if not DeltaTable.is_deltatable(str(self.folder)):
            return None
        handle = DeltaTable(str(self.folder))
        version_of_table(handle, self.spec)
        self._handle, self._opened_at = handle, handle.version()
        return handle


def _may_hold(known: list[str], wanted: Wanted, buckets: int | None) -> pl.Expr:
    """Return the condition under which a file can hold rows; a null rules nothing out."""
    rule: pl.Expr = pl.lit(value=True)
    low, high = f"min.{wanted.column}", f"max.{wanted.column}"
    if wanted.start is not None and high in known:
        rule &= (pl.col(high) >= wanted.start).fill_null(value=True)
    if wanted.end is not None and low in known:
        rule &= (pl.col(low) < wanted.end).fill_null(value=True)
    if wanted.symbols and "min.symbol" in known:
        some = [
            (pl.col("min.symbol") <= symbol) & (pl.col("max.symbol") >= symbol)
            for symbol in wanted.symbols
        ]
        rule &= pl.any_horizontal(some).fill_null(value=True)
    if wanted.symbols and buckets is not None and "partition.bucket" in known:
        numbers = {bucket_of(symbol, buckets) for symbol in wanted.symbols}
        rule &= pl.col("partition.bucket").is_in(sorted(numbers))
    if wanted.dates is not None:
        (date,) = (name for name in known if re.fullmatch(r"partition\..*_date", name))
        rule &= pl.col(date).cast(pl.String).is_in(list(wanted.dates))
    return rule


def _is_evolved(adds: pl.DataFrame) -> bool:
    """Whether files may differ in their columns: then the log counts the nulls of not all."""
    counts = [name for name in adds.columns if name.startswith("null_count.")]
    return not counts or any(adds[name].null_count() for name in counts)
