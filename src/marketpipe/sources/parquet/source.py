"""Parquet files of ticks, one row group in memory at a time."""

from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from marketpipe.domain.batches import Batch, SourceCounts, TickKind
from marketpipe.domain.closing import Closing
from marketpipe.domain.tables import TableReader
from marketpipe.errors import CorruptError, InputError
from marketpipe.sources.base import BATCH_ROWS, checked_defaults, checked_symbols


class ParquetSource(Closing):
    """Trades or quotes from a Parquet file.

    Columns are named as in the tick CSV; ``ts_event`` and ``price_nanos``, ``size_nanos`` and
    the like are understood too, and columns that are no part of a tick are not read. The schema
    is read at once. Use it in a ``with`` statement, or call `close`, if `batches` may not be
    read to its end.

    Parameters
    ----------
    path : of a regular file
    symbols : keep only these; rows of others are counted as filtered, whatever else is in them
    default_source, default_feed : for rows, or files, that name none
    batch_rows : rows in a full batch

    Raises
    ------
    HeaderError
        A column is missing, doubled, of a type that cannot be read exactly, or excludes another.
    CorruptError
        It is not a Parquet file, or a damaged one.
    InputError
        It cannot be opened.
    UsageError
        ``symbols``, ``default_source`` or ``default_feed`` is malformed.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        symbols: frozenset[str] | None = None,
        default_source: str = "file",
        default_feed: str = "",
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        symbols = checked_symbols(symbols)
        checked_defaults(default_source, default_feed)
        self._name = fspath(path)
        self._batch_rows = batch_rows
        if self._name == "-":
            raise InputError(
                "Parquet cannot be read from standard input, because its index is at the end; "
                "write it to a file first"
            )
        try:
            self._total_bytes = Path(self._name).stat().st_size
            with pq.ParquetFile(self._name) as plain:
                self._reader = TableReader(
                    plain.schema_arrow,
                    where=self._name,
                    symbols=symbols,
                    default_source=default_source,
                    default_feed=default_feed,
                )
                metadata = plain.metadata
            self._total_rows: int = metadata.num_rows
            self._file = pq.ParquetFile(
                self._name, metadata=metadata, read_dictionary=list(self._reader.dictionary)
            )
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise self._error(error, 0) from error

    def _error(self, error: Exception, done_rows: int) -> InputError:
        if isinstance(error, OSError) and error.errno is not None:
            return InputError(f"{self._name}: cannot be opened: {error.strerror or error}")
        if Path(self._name).is_dir():
            return InputError(f"{self._name}: is a folder; name one Parquet file")
        return CorruptError(
            f"{self._name}: is not a whole Parquet file: {error}. Write or fetch it again; a CSV "
            f"is read with --csv. {done_rows:,} rows before the damage were read"
        )

    @property
    def kind(self) -> TickKind:
        """Whether the file holds trades or quotes."""
        return self._reader.kind

    def describe(self) -> str:
        """Say in one line what is read, and what is not."""
        ignored = ", ".join(self._reader.ignored)
        tail = f"; not read: {ignored}" if ignored else ""
        return f"{self.kind} from {self._name} (Parquet: {', '.join(self._reader.needed)}{tail})"

    def progress(self) -> tuple[int, int | None]:
        """Return (bytes done, by the share of rows, bytes in all)."""
        if not self._total_rows:
            return self._total_bytes, self._total_bytes
        return self._total_bytes * self._done_rows() // self._total_rows, self._total_bytes

    def counts(self) -> SourceCounts:
        """Return what became of the rows read so far."""
        return self._reader.counts

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in file order, once.

        Raises
        ------
        CorruptError
            The file is damaged; the batches before the damage have been yielded.
        """
        try:
            found = self._found()
            while True:
                try:
                    batch = next(found, None)
                except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                    raise self._error(error, self._done_rows()) from error
                if batch is None:
                    return
                yield batch
        finally:
            self.close()

    def _found(self) -> Iterator[Batch]:
        for group in range(self._file.num_row_groups):
            parts: Iterator[Any] = self._file.iter_batches(
                batch_size=self._batch_rows,
                row_groups=[group],
                columns=self._reader.needed,
                use_threads=False,
            )
            for part in parts:
                yield from self._reader.read(part)

    def _done_rows(self) -> int:
        counts = self._reader.counts
        return counts.rows + counts.bad + counts.filtered
