"""Tick CSV, read in batches."""

from collections.abc import Iterator
from typing import Final

from marketpipe.domain.batches import BadRow, Batch, TickKind
from marketpipe.domain.closing import Closing
from marketpipe.errors import CorruptError
from marketpipe.sources.base import (
    BATCH_ROWS,
    ByteStream,
    PathOrStream,
    SourceCounts,
    checked_defaults,
    checked_symbols,
)
from marketpipe.sources.csvfile import _rows_kernel as rows
from marketpipe.sources.csvfile.blocks import BLOCK_BYTES, LineBlocks, read_header
from marketpipe.sources.csvfile.names import Names
from marketpipe.sources.csvfile.rows import RowReader

_BAD_PER_BATCH: Final = 16_384


class CsvSource(Closing):
    """Trades or quotes from a tick CSV, plain, gzip or zstd.

    The header is read at once, so ``kind`` is known before the first batch. Use it in a
    ``with`` statement, or call `close`, if `batches` may not be read to its end.

    Parameters
    ----------
    origin : a path, ``-`` for standard input, or a binary stream
    symbols : keep only these; rows of others are counted as filtered, whatever else is in them
    default_source, default_feed : for rows, or files, that name none
    batch_rows : rows in a full batch
    block_bytes : unpacked bytes read at a time; any value gives the same rows

    Raises
    ------
    HeaderError
        The file is empty, or a column is missing, unknown, doubled, or excludes another.
    InputError
        The file cannot be opened or read.
    UsageError
        ``symbols``, ``default_source`` or ``default_feed`` is malformed.
    """

    def __init__(
        self,
        origin: PathOrStream,
        *,
        symbols: frozenset[str] | None = None,
        default_source: str = "file",
        default_feed: str = "",
        batch_rows: int = BATCH_ROWS,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        symbols = checked_symbols(symbols)
        checked_defaults(default_source, default_feed)
        self._bad_total = 0
        self._rows_total = 0
        self._stream = ByteStream(origin)
        try:
            self._blocks = LineBlocks(self._stream, block_bytes)
            layout, first = read_header(self._blocks, self._stream.name)
        except BaseException:
            self._stream.close()
            raise
        self._rows = RowReader(
            layout,
            Names(symbols),
            source=default_source,
            feed=default_feed,
            file=self._stream.name,
            batch_rows=batch_rows,
            window_bytes=len(self._blocks.buffer),
            keep_all=symbols is None,
        )
        self._state = self._rows.state
        self._state[rows.LINE] = 1
        self._index_from(first)

    @property
    def kind(self) -> TickKind:
        """Whether the file holds trades or quotes."""
        return self._rows.layout.kind

    def describe(self) -> str:
        """Say in one line what is read."""
        columns = ", ".join(self._rows.layout.columns)
        return f"{self.kind} from {self._stream.name} ({self._stream.packing} CSV: {columns})"

    def progress(self) -> tuple[int, int | None]:
        """Return (bytes read, bytes in all or None where unknown), as stored, compressed."""
        return self._stream.done_bytes, self._stream.total_bytes

    def counts(self) -> SourceCounts:
        """Return what became of the lines behind the header; those of a batch once it is out."""
        return SourceCounts(
            rows=self._rows_total,
            bad=self._bad_total,
            filtered=int(self._state[rows.FILTERED]),
            blank=int(self._state[rows.BLANK]),
        )

    def close(self) -> None:
        """Close the file, unless it was handed in open."""
        self._stream.close()

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in file order, in batches of about ``batch_rows``, once.

        Raises
        ------
        CorruptError
            The packed bytes end early or do not decode; every complete line before the damage
            has been yielded.
        """
        damage: CorruptError | None = None
        try:
            while True:
                stop = self._rows.parse(self._blocks.buffer)
                if stop == rows.ROWS_FULL or len(self._rows.bad) >= _BAD_PER_BATCH:
                    yield self._take_batch()
                elif stop == rows.NEED_BYTES:
                    if self._blocks.final:
                        break
                    try:
                        self._read_on()
                    except CorruptError as error:
                        damage = error
                        break
            if self._state[rows.ROWS] or self._rows.bad:
                yield self._take_batch()
        finally:
            self.close()
        if damage is not None:
            raise CorruptError(
                f"{damage}. {self._rows_total:,} rows and {self._bad_total:,} bad rows before it "
                "were read"
            ) from damage

    def _read_on(self) -> None:
        at = int(self._state[rows.AT])
        if self._blocks.is_too_long(at):
            head, size = self._blocks.skip_line(at)
            self._state[rows.LINE] += 1
            line = int(self._state[rows.LINE])
            self._rows.bad.append(BadRow(line, "line_too_long", "", head, size))
        else:
            self._blocks.refill(at)
        self._index_from(0)

    def _index_from(self, at: int) -> None:
        self._rows.index(self._blocks.buffer, at, self._blocks.end)

    def _take_batch(self) -> Batch:
        batch = self._rows.take()
        self._bad_total += len(batch.bad)
        self._rows_total += len(batch)
        return batch
