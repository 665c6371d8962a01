"""`LakeTable`: one Delta table of the lake, written exactly once."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from marketpipe.errors import BusyError, LakeError
from marketpipe.lake.budget import DiskBudget
from marketpipe.lake.checks import check_rows
from marketpipe.lake.datafiles import (
    COMPRESSIONS,
    Action,
    Compression,
    write_partitions,
)
from marketpipe.lake.evolution import (
    BUCKET_COUNT,
    DROPPED_BEFORE,
    SCHEMA_VERSION,
    evolve,
    version_of_table,
)
from marketpipe.lake.faults import told_as_ours
from marketpipe.lake.layout import LakeLayout, TableSpec, partitioned_order, with_partitions

Value: TypeAlias = str | int | date
Predicate: TypeAlias = Sequence[tuple[str, str, Value | Sequence[Value]]]
"""Conditions that all hold: (partition column, ``= != < <= > >= in`` or ``not in``, value)."""

HORIZON_HOURS: Final = 24
"""Longest that a reader may hold a list of files; removed files are remembered that long."""

_ATTEMPTS: Final = 8
_PROPERTIES: Final = {
    "delta.checkpointInterval": "100",
    "delta.deletedFileRetentionDuration": f"interval {HORIZON_HOURS} hours",
    "delta.logRetentionDuration": "interval 24 hours",
}


class TableCommit(NamedTuple):
    """One version of a table: its number, when (ns since the epoch) and by what it was made."""

    version: int
    ts_ns: int
    operation: str


class LakeTable:
    """One table of the lake; make it with `LakeTable.open`.

    Appending is exactly once: a writer names itself (``app_id``) and how far its rows go
    (``through``, an offset of its journal); both are stored in the commit of the rows, and rows
    at or below what is stored are left out. One object serves one thread.

    Attributes
    ----------
    spec : columns, partitions, order
    path : the table's folder
    buckets : instrument buckets that the table was made with
    compression : of the files it writes
    """

    def __init__(
        self,
        spec: TableSpec,
        path: Path,
        handle: DeltaTable,
        *,
        compression: Compression = "zstd",
        budget: DiskBudget | None = None,
    ) -> None:
        self.spec = spec
        self.path = path
        self.compression = compression
        self.buckets = int(handle.metadata().configuration.get(BUCKET_COUNT, "1"))
        self._handle: DeltaTable | None = handle
        self._budget = budget

    @classmethod
    def open(
        cls,
        layout: LakeLayout,
        name: str,
        *,
        create: bool = True,
        compression: Compression = "zstd",
        budget: DiskBudget | None = None,
        spec: TableSpec | None = None,
    ) -> "LakeTable":
        """Open a table; make it if it is absent, and bring an older version forward.

        Parameters
        ----------
        create : make and evolve; if false the table is only read, and left as it is
        compression : ``zstd``, ``snappy`` or ``lz4``
        budget : checked before every append
        spec : what the table is made of, if not what ``layout`` says

        Raises
        ------
        LakeError
            If the table is absent and ``create`` false, or cannot be read.
        NewerVersionError
            If a newer version of MarketPipe made it.
        BusyError
            If other processes change it without a pause.
        """
        if compression not in COMPRESSIONS:
            raise LakeError(f"compression was {compression!r}; valid are {', '.join(COMPRESSIONS)}")
        spec, path = spec or layout.spec(name), layout.path(name)
        with told_as_ours(f"opening table {name} at {path}"):
            handle = _open(spec, path, layout.buckets if create else None)
            version_of_table(handle, spec)
            if create:
                handle = _brought_forward(spec, path, handle)
        return cls(spec, path, handle, compression=compression, budget=budget)

    def append(
        self,
        rows: pa.Table,
        *,
        app_id: str,
        through: int,
        offsets: npt.NDArray[np.int64] | None = None,
        mark: bool = False,
    ) -> int:
        """Append rows exactly once.

        Parameters
        ----------
        rows : the columns of ``spec.rows``, in any order of rows
        app_id : the writer, ``pipeline/table/journal/partition``; one process at a time may be it
        through : offset (inclusive) that the rows go to; the same rows may come again, cut
            otherwise, but never others for an offset at or below one that was given before
        offsets : offset of each row, for tables without a column ``offset``
        mark : store ``through`` even if there is no row to write

        Returns
        -------
        How many rows were written: 0 if the table has them all.

        Raises
        ------
        LakeError
            If columns, types or values do not fit (the message names the column), or a row's
            offset is above ``through``, or the commit fails.
        FullError
            If the disk is full or the budget is spent; try again later. Rows up to some offset may
            have been written, if the budget had room for a part of them.
        """
        check_rows(rows, self.spec)
        at = self._offsets(rows, offsets, through)
        cut = None if self._budget is None else self._budget.cut(rows.nbytes, at)
        if cut is not None:
            return sum(
                self.append(
                    rows.filter(pa.array(part)),
                    app_id=app_id,
                    through=end,
                    offsets=at[part],
                    mark=mark,
                )
                for part, end in ((at <= cut, cut), (at > cut, through))
            )
        ready = with_partitions(rows, self.spec, self.buckets).select(self.spec.schema.names)
        for attempt in range(_ATTEMPTS):
            with told_as_ours(f"appending to table {self.spec.name} at {self.path}"):
                handle = self._fresh()
                stored = handle.transaction_version(app_id)
                if stored is not None and stored >= through:
                    return 0
                is_new = at > (-1 if stored is None else stored)
                new = ready if is_new.all() else ready.filter(pa.array(is_new))
                if not (new.num_rows or mark):
                    return 0
                try:
                    self._commit(handle, new, Transaction(app_id, through))
                except CommitFailedError:
                    # Someone else committed what this handle had not seen: look again.
                    if attempt == _ATTEMPTS - 1:
                        raise
                    continue
                finally:
                    # It slows down with every commit since it was opened, and until the next
                    # flush would hold a copy of the log for nothing.
                    self._handle = None
                return int(new.num_rows)
        return 0

    @property
    def floor(self) -> date | None:
        """First day that `marketpipe.lake.drop_before` left here; None if it never took any.

        Rows of earlier days may have come since, but not all that were there.
        """
        with told_as_ours(f"reading table {self.spec.name} at {self.path}"):
            day = self._fresh().metadata().configuration.get(DROPPED_BEFORE)
        return None if day is None else date.fromisoformat(day)

    def version_of(self, app_id: str) -> int | None:
        """Return how far a writer has come: its last ``through``; none if it never wrote."""
        with told_as_ours(f"reading table {self.spec.name} at {self.path}"):
            return self._fresh().transaction_version(app_id)

    def files(self, predicate: Predicate | None = None) -> list[str]:
        """Return the paths of the live files, absolute, in the order of the paths.

        Parameters
        ----------
        predicate : conditions on partition columns; files that cannot match are left out

        Raises
        ------
        LakeError
            If a condition names another column.
        """
        for column, _, _ in predicate or ():
            self._check_partition(column)
        told = [(column, op, _texts(value)) for column, op, value in predicate or ()]
        with told_as_ours(f"listing the files of table {self.spec.name} at {self.path}"):
            uris = self._fresh().file_uris(file_pruning_predicate=told or None)
        # The table's own path is escaped in them; below it they are as they lie on disk.
        depth = len(self.spec.partition_by) + 1
        return sorted("/".join((str(self.path), *uri.split("/")[-depth:])) for uri in uris)

    def count(self) -> int:
        """Return the number of rows."""
        with told_as_ours(f"counting table {self.spec.name} at {self.path}"):
            return int(self._fresh().count())

    def history(self, limit: int | None = None) -> list[TableCommit]:
        """Return what was done to the table, newest first, as far back as the log is kept."""
        with told_as_ours(f"reading the log of table {self.spec.name} at {self.path}"):
            return [_commit_of(entry) for entry in self._fresh().history(limit)]

    def check(self) -> None:
        """Look for every live file on disk, and read its footer, which a file cut short lacks.

        Raises
        ------
        LakeError
            If files are missing or damaged; the message names the first and how to get the rows
            back.
        """
        paths = self.files()
        missing = [path for path in paths if not Path(path).exists()]
        if missing:
            raise LakeError(
                f"table {self.spec.name}: {len(missing)} of its files are missing, first "
                f"'{missing[0]}'; {self._way_back}"
            )
        for path in paths:
            try:
                pq.read_metadata(path)
            except (pa.ArrowException, OSError) as error:
                raise LakeError(
                    f"table {self.spec.name}: '{path}' cannot be read ({error}); {self._way_back}"
                ) from error

    @property
    def _way_back(self) -> str:
        return _WAY_BACK["raw" if self.spec.append_only else "derived"]

    def _fresh(self) -> DeltaTable:
        if self._handle is None:
            self._handle = DeltaTable(self.path)
        else:
            self._handle.update_incremental()
        return self._handle

    def _commit(self, handle: DeltaTable, rows: pa.Table, mark: Transaction) -> None:
        if not rows.num_rows:
            self._conclude(handle, [], mark)
            return
        if self._budget is not None:
            self._budget.admit(rows.nbytes)
        ordered = partitioned_order(rows, self.spec)
        written = write_partitions(self.path, ordered, self.spec, self.compression)
        # If this fails, the files stay until the next vacuum: who knows whether it went through.
        self._conclude(handle, [one.action for one in written], mark)

    def _conclude(self, handle: DeltaTable, adds: list[Action], mark: Transaction) -> None:
        # Through the handle whose version was looked at: by path a race would go unseen.
        handle.create_write_transaction(
            adds,
            "append",
            handle.schema(),
            list(self.spec.partition_by),
            commit_properties=CommitProperties(app_transactions=[mark]),
        )

    def _offsets(
        self, rows: pa.Table, offsets: npt.NDArray[np.int64] | None, through: int
    ) -> npt.NDArray[np.int64]:
        if "offset" in rows.column_names:
            offsets = rows["offset"].to_numpy()
        elif not rows.num_rows:
            offsets = np.empty(0, np.int64)
        if offsets is None or len(offsets) != rows.num_rows:
            given = "none" if offsets is None else f"{len(offsets)} values"
            raise LakeError(
                f"table {self.spec.name}: offsets was '{given}' for {rows.num_rows} rows; "
                "give the journal offset of each row"
            )
        if len(offsets) and (highest := int(offsets.max())) > through:
            raise LakeError(
                f"table {self.spec.name}: through was '{through}', below the offset {highest} of "
                "a row; give the offset that the rows go to"
            )
        return offsets

    def _check_partition(self, column: str) -> None:
        if column not in self.spec.partition_by:
            raise LakeError(
                f"table {self.spec.name}: predicate column was {column!r}; valid are "
                f"{', '.join(self.spec.partition_by)}"
            )


_WAY_BACK: Final = {
    "raw": "put the file back from a copy; the rows are nowhere else once the journal's segments "
    "are gone",
    "derived": "put the file back from a copy, or move the table's folder away and rebuild it "
    "from raw",
}


def _open(spec: TableSpec, path: Path, buckets: int | None) -> DeltaTable:
    try:
        return DeltaTable(path)
    except TableNotFoundError as error:
        if buckets is None:
            raise LakeError(
                f"table {spec.name} was not found at '{path}'; nothing was written to it yet"
            ) from error
    try:
        return DeltaTable.create(
            path,
            spec.schema,
            partition_by=list(spec.partition_by),
            name=spec.name,
            configuration={
                **_PROPERTIES,
                "delta.appendOnly": str(spec.append_only).lower(),
                SCHEMA_VERSION: str(spec.version),
                BUCKET_COUNT: str(buckets),
            },
            raise_if_key_not_exists=False,
        )
    except DeltaError:
        if not DeltaTable.is_deltatable(str(path)):
            raise
        # Another process made it at the same moment.
        return DeltaTable(path)


def _brought_forward(spec: TableSpec, path: Path, handle: DeltaTable) -> DeltaTable:
    for _ in range(_ATTEMPTS):
        try:
            evolve(handle, spec)
            _keep_append_only(handle, spec)
        except CommitFailedError:
            # Another process does the same; what it left undone is done in the next turn.
            handle = DeltaTable(path)
        else:
            return handle
    raise BusyError(
        f"table {spec.name} at '{path}' is changed by other processes without a pause; try again"
    )


def _keep_append_only(handle: DeltaTable, spec: TableSpec) -> None:
    # A process killed while it dropped old days leaves the table open to deletes.
    if spec.append_only and handle.metadata().configuration.get("delta.appendOnly") != "true":
        handle.alter.set_table_properties({"delta.appendOnly": "true"})


def _texts(value: Value | Sequence[Value]) -> str | list[str]:
    if isinstance(value, str | int | date):
        return str(value)
    return [str(one) for one in value]


def _commit_of(entry: dict[str, Any]) -> TableCommit:
    operation = entry.get("marketpipe.operation") or entry.get("operation", "")
    return TableCommit(int(entry["version"]), int(entry["timestamp"]) * 1_000_000, str(operation))
