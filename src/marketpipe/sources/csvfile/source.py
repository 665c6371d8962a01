"""Tick CSV, read in batches: the only place that drives the kernel."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from marketpipe.domain.batches import I64, BadRow, Batch, QuoteBatch, TickKind, TradeBatch
from marketpipe.domain.tradeids import text_trade_id
from marketpipe.errors import CorruptError, HeaderError
from marketpipe.sources.base import (
    BATCH_ROWS,
    ByteStream,
    Closing,
    PathOrStream,
    SourceCounts,
    bad_row,
    checked_defaults,
    checked_symbols,
)
from marketpipe.sources.csvfile import _rows_kernel as rows
from marketpipe.sources.csvfile.blocks import BLOCK_BYTES, LineBlocks
from marketpipe.sources.csvfile.header import Layout, parse_header
from marketpipe.sources.csvfile.names import Names
from marketpipe.sources.csvfile.reasons import REASONS

_BOM = b"\xef\xbb\xbf"
_BAD_PER_CALL: Final = 4096
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
        self._keep_all = symbols is None
        self._names = Names(default_source, default_feed, symbols)
        self._batch_rows = batch_rows
        self._bad: list[BadRow] = []
        self._bad_total = 0
        self._rows_total = 0
        self._stream = ByteStream(origin)
        try:
            self._blocks = LineBlocks(self._stream, block_bytes)
            self._layout, first = self._read_header()
        except BaseException:
            self._stream.close()
            raise
        self._state: I64 = np.zeros(rows.STATES, np.int64)
        self._state[rows.LINE] = 1
        self._work = self._new_work()
        self._index_from(first)

    @property
    def kind(self) -> TickKind:
        """Whether the file holds trades or quotes."""
        return self._layout.kind

    def describe(self) -> str:
        """Say in one line what is read."""
        columns = ", ".join(self._layout.columns)
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
                stop = self._parse()
                if stop == rows.ROWS_FULL or len(self._bad) >= _BAD_PER_BATCH:
                    yield self._take_batch()
                elif stop == rows.TABLE_FULL:
                    self._names.grow(self._stream.name)
                elif stop == rows.NEED_BYTES:
                    if self._blocks.final:
                        break
                    try:
                        self._read_on()
                    except CorruptError as error:
                        damage = error
                        break
            if self._state[rows.ROWS] or self._bad:
                yield self._take_batch()
        finally:
            self.close()
        if damage is not None:
            raise CorruptError(
                f"{damage}. {self._rows_total:,} rows and {self._bad_total:,} bad rows before it "
                "were read"
            ) from damage

    def _read_header(self) -> tuple[Layout, int]:
        blocks = self._blocks
        name = self._stream.name
        line_feed = -1
        while line_feed < 0 and not blocks.final:
            if blocks.is_too_long(0):
                raise HeaderError(
                    f"{name}: the header line is longer than {rows.MAX_LINE_BYTES:,} bytes. Is "
                    "this a text file with one row per line?"
                )
            blocks.refill(0)
            line_feed = blocks.find_line(0)
        stop = blocks.end if line_feed < 0 else line_feed
        raw = blocks.text(0, stop).removeprefix(_BOM).removesuffix(b"\r")
        if blocks.final and not blocks.end:
            raise HeaderError(f"{name}: the file is empty; a tick CSV starts with a header line")
        return parse_header(raw, name), min(stop + 1, blocks.end)

    def _new_work(self) -> rows.Work:
        layout = self._layout
        columns = len(layout.columns)
        return rows.Work(
            layout=layout.take,
            header=np.frombuffer(layout.raw, np.uint8).copy(),
            numbers=np.empty((len(layout.number_of), self._batch_rows), np.int64),
            codes=np.empty((len(layout.code_of), self._batch_rows), np.int32),
            side=np.empty(self._batch_rows if "side" in layout.columns else 0, np.int8),
            bad=np.empty((_BAD_PER_CALL, 5), np.int64),
            id_bytes=np.empty(len(self._blocks.buffer), np.uint8),
            marks=np.empty(len(self._blocks.buffer), np.int64),
            spans=np.zeros((columns, 3), np.int64),
            state=self._state,
        )

    def _parse(self) -> int:
        state = self._state
        before = int(state[rows.ROWS])
        state[rows.ID_BYTES] = 0
        stop = int(
            rows.parse_rows(
                self._blocks.buffer,
                self._work,
                self._names.table,
                self._names.default,
                self._layout.columns_of_note,
                self._keep_all,
            )
        )
        for line, reason, column, begin, end in self._work.bad[: state[rows.BAD]].tolist():
            field = self._layout.columns[column] if column >= 0 else ""
            self._bad.append(bad_row(line, REASONS[reason], field, self._blocks.text(begin, end)))
        if state[rows.ID_BYTES]:
            self._digest_ids(before, int(state[rows.ROWS]))
        return stop

    def _digest_ids(self, begin: int, end: int) -> None:
        high, low = (
            self._work.numbers[self._layout.number_of[name], begin:end]
            for name in ("id_hi", "id_lo")
        )
        arena = self._work.id_bytes[: self._state[rows.ID_BYTES]].tobytes()
        mask = (1 << rows.ID_SIZE_BITS) - 1
        for k in np.flatnonzero(high == 1).tolist():
            at, size = int(low[k]) >> rows.ID_SIZE_BITS, int(low[k]) & mask
            high[k], low[k] = text_trade_id(arena[at : at + size])

    def _read_on(self) -> None:
        at = int(self._state[rows.AT])
        if self._blocks.is_too_long(at):
            head, size = self._blocks.skip_line(at)
            self._state[rows.LINE] += 1
            self._bad.append(BadRow(int(self._state[rows.LINE]), "line_too_long", "", head, size))
        else:
            self._blocks.refill(at)
        self._index_from(0)

    def _index_from(self, at: int) -> None:
        self._state[rows.AT] = at
        rows.index_block(self._blocks.buffer, self._blocks.end, self._work.marks, self._state)

    def _take_batch(self) -> Batch:
        count = int(self._state[rows.ROWS])
        numbers: dict[str, Any] = {
            name: self._work.numbers[place, :count]
            for name, place in self._layout.number_of.items()
        }
        codes: dict[str, Any] = {
            name: self._work.codes[place, :count] for name, place in self._layout.code_of.items()
        }
        dictionaries = self._names.dictionaries()
        bad = tuple(self._bad)
        side = self._work.side[:count] if len(self._work.side) else None
        self._bad = []
        self._bad_total += len(bad)
        self._rows_total += count
        self._state[rows.ROWS] = 0
        self._work = self._work._replace(
            numbers=np.empty_like(self._work.numbers),
            codes=np.empty_like(self._work.codes),
            side=np.empty_like(self._work.side),
        )
        if self.kind == "quotes":
            return QuoteBatch(dictionaries=dictionaries, bad=bad, **codes, **numbers)
        return TradeBatch(dictionaries=dictionaries, bad=bad, side=side, **codes, **numbers)
