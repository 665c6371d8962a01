"""`SchemaValidator` says whether an Arrow table holds what its canonical schema promises.

Every row is looked at, the bad ones too: a row that breaks one rule is still held against all
others, and nothing is filtered beforehand.
"""

import unicodedata
from collections.abc import Container, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain import schemas
from marketpipe.domain.batches import I64
from marketpipe.domain.findings import EXAMPLES_KEPT, FINDING_CODES, Example, Findings
from marketpipe.errors import UsageError

_SCHEMAS: Final = {
    **schemas.CANONICAL,
    "bars": schemas.BARS,
    "quarantine": schemas.QUARANTINE,
}
_OHLC: Final = ("open", "high", "low", "close")
_POSITIVE: Final = {
    "trades": ("price",),
    "book": ("price",),
    "vendor_bars": _OHLC,
    "corrections": ("price", "new_price"),
    "bars": _OHLC,
}
_NOT_NEGATIVE: Final = (
    "ts_event", "ts_recv", "ts_open", "ts_close", "recorded_at", "known_at", "trade_ts_event",
    "offset", "schema_version", "level", "revision", "trade_count", "raw_bytes", "size", "new_size",
    "bid", "ask", "bid_size", "ask_size", "limit_up", "limit_down", "volume", "notional",
)  # fmt: skip
_WORDS: Final[dict[str, dict[str, Container[str]]]] = {
    "trades": {"side": ("", "buy", "sell")},
    "book": {"side": ("", "bid", "ask")},
    "statuses": {"kind": ("status", "luld")},
    "vendor_bars": {"kind": ("bar", "updated", "daily")},
    "corrections": {"kind": ("cancel", "correction")},
    "bars": {
        "price_type": schemas.PRICE_TYPES,
        "state": schemas.STATES,
        "coverage": schemas.COVERAGES,
        "cause": schemas.CAUSES,
    },
    "quarantine": {"reason": FINDING_CODES},
}
_NAMES: Final = ("source", "feed", "symbol", "rule_set", "session", "timeframe", "journal_id")
_NEVER_EMPTY: Final = {
    "corrections": (*_NAMES, "trade_id"),
    "quarantine": ("source", "feed", "journal_id", "reason"),
}
_FLAGS: Final = schemas.BACKFILLED


class Problem(NamedTuple):
    """One broken rule: its code, the column, and the rows (1-based, ascending; 0 rows: a column).

    ``detail`` says what was found at the first of the rows, or in the column.
    """

    code: str
    field: str
    rows: I64
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What was checked and what was wrong.

    Attributes
    ----------
    rows : rows looked at: always all rows of the table
    problems : in the order of the schema's columns
    """

    rows: int
    problems: tuple[Problem, ...]

    @property
    def bad_rows(self) -> I64:
        """Rows with at least one problem, ascending, 1-based."""
        every = [p.rows for p in self.problems]
        return np.unique(np.concatenate(every)) if every else np.empty(0, np.int64)

    @property
    def findings(self) -> Findings:
        """Counts by code; a problem of a whole column counts once, under row 0."""
        return Findings.merge(
            Findings.of(
                p.code,
                max(len(p.rows), 1),
                [
                    Example(int(row), p.field, p.detail)
                    for row in (p.rows[:1] if len(p.rows) else (0,))
                ]
                + [Example(int(row), p.field, "") for row in p.rows[1:EXAMPLES_KEPT]],
            )
            for p in self.problems
        )

    def __bool__(self) -> bool:
        return not self.problems


class SchemaValidator:
    """Checks tables of one kind against its canonical schema (`domain.schemas`).

    Presence, types, nulls, values: prices above zero, sizes, counts, offsets and instants not
    negative, text valid, words and flags from their lists; for our bars open and close within
    low to high, all four prices or none, and ``ts_open < ts_close``. ``vwap`` may lie outside low
    to high: odd lots count in it and set no high or low. A vendor's bars are kept as they came.

    Parameters
    ----------
    kind : ``trades``, ``quotes``, ``book``, ``statuses``, ``vendor_bars``, ``corrections``,
        ``bars`` or ``quarantine``

    Raises
    ------
    UsageError
        If ``kind`` is none of these.
    """

    def __init__(self, kind: str) -> None:
        if kind not in _SCHEMAS:
            raise UsageError(f"kind was {kind!r}; valid are {', '.join(_SCHEMAS)}; choose one")
        self._kind = kind
        self._schema = _SCHEMAS[kind]

    def validate(self, table: pa.Table | pa.RecordBatch) -> Validation:
        """Look at every row of a table and say what is wrong with which."""
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        columns: dict[str, Any] = {}
        problems: list[Problem] = []
        for field in self._schema:
            found = table.schema.get_all_field_indices(field.name)
            if len(found) != 1:
                detail = "absent" if not found else f"there {len(found)} times"
                problems.append(_of_column("missing_column", field.name, detail))
                continue
            column = table.column(found[0])
            if column.type != field.type:
                detail = f"{column.type} in place of {field.type}"
                problems.append(_of_column("wrong_type", field.name, detail))
                continue
            columns[field.name] = column
            problems.extend(self._check_column(field, column))
        extra = sorted(set(table.schema.names) - set(self._schema.names))
        problems += [_of_column("unexpected_column", name, "not in the schema") for name in extra]
        if self._kind == "bars":
            problems.extend(_check_bars(columns))
        return Validation(rows=table.num_rows, problems=tuple(problems))

    def _check_column(self, field: pa.Field, column: Any) -> Iterator[Problem]:
        name = field.name
        if not field.nullable:
            yield from _where("null_value", name, column, pc.is_null(column))
        if pa.types.is_string(field.type):
            yield from self._check_text(name, column)
        elif name in _POSITIVE.get(self._kind, ()):
            yield from _where("non_positive_price", name, column, _below(column, 1))
        elif name in _NOT_NEGATIVE:
            yield from _where("negative_value", name, column, _below(column, 0))
        elif name == "flags":
            unknown = pc.not_equal(pc.bit_wise_and(column, pa.scalar(~_FLAGS, column.type)), 0)
            yield from _where("unknown_value", name, column, unknown)

    def _check_text(self, name: str, column: Any) -> Iterator[Problem]:
        """Judge each distinct text once; as bytes, because Arrow may hold invalid UTF-8."""
        raw = column.cast(pa.binary()).combine_chunks()
        if isinstance(raw, pa.ChunkedArray):
            raw = pa.concat_arrays(raw.chunks) if raw.num_chunks else pa.array([], pa.binary())
        coded = raw.dictionary_encode()
        words = coded.dictionary.to_pylist()
        for code, judge in (("bad_text", self._is_bad), ("unknown_value", self._is_unknown)):
            bad = pa.array([judge(name, word) for word in words], pa.bool_())
            hit = pc.take(bad, coded.indices)
            yield from _where(code, name, raw, hit)

    def _is_bad(self, name: str, word: bytes) -> bool:
        try:
            text = word.decode("utf-8")
        except UnicodeDecodeError:
            return True
        empty = not text and name in _NEVER_EMPTY.get(self._kind, _NAMES)
        return empty or any(unicodedata.category(c) == "Cc" for c in text)

    def _is_unknown(self, name: str, word: bytes) -> bool:
        valid = _WORDS.get(self._kind, {}).get(name)
        return valid is not None and word.decode("utf-8", "replace") not in valid


def _check_bars(columns: dict[str, Any]) -> Iterator[Problem]:
    if all(name in columns for name in _OHLC):
        nulls = [pc.cast(pc.is_null(columns[name]), pa.int8()) for name in _OHLC]
        missing = pc.add(pc.add(nulls[0], nulls[1]), pc.add(nulls[2], nulls[3]))
        some = pc.and_(pc.greater(missing, 0), pc.less(missing, 4))
        yield from _where("incomplete_ohlc", "open", columns["open"], some)
        low, high = columns["low"], columns["high"]
        for name in ("open", "close"):
            outside = pc.or_(pc.less(columns[name], low), pc.greater(columns[name], high))
            yield from _where("price_outside_range", name, columns[name], outside)
        yield from _where("price_outside_range", "low", low, pc.greater(low, high))
    if "ts_open" in columns and "ts_close" in columns:
        empty = pc.greater_equal(columns["ts_open"], columns["ts_close"])
        yield from _where("empty_interval", "ts_close", columns["ts_close"], empty)


def _below(column: Any, limit: int) -> Any:
    """Whether each value is below 0, or for a limit of 1 is 0 or below."""
    if pa.types.is_decimal(column.type):
        zero = pa.scalar(Decimal(0), column.type)
        return pc.less(column, zero) if limit == 0 else pc.less_equal(column, zero)
    return pc.less(column, limit)


def _where(code: str, field: str, column: Any, hit: Any) -> Iterator[Problem]:
    mask: npt.NDArray[np.bool_] = np.asarray(pc.fill_null(hit, False))
    rows = np.flatnonzero(mask).astype(np.int64)
    if len(rows):
        first = column[int(rows[0])]
        yield Problem(code, field, rows + 1, f"was {_shown(first)}")


def _shown(value: Any) -> str:
    if pa.types.is_string(value.type):
        value = value.cast(pa.binary())
    return repr(value.as_py()) if pa.types.is_binary(value.type) else str(value.as_py())


def _of_column(code: str, field: str, detail: str) -> Problem:
    return Problem(code, field, np.empty(0, np.int64), detail)
