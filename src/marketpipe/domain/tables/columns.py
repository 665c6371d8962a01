"""The schema of a table of ticks: which column holds what, or what is wrong with it."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import pyarrow as pa

from marketpipe.domain.batches import TickKind
from marketpipe.errors import HeaderError

TIME_UNIT_NS: Final = {"ts_ns": 1, "ts_us": 1_000, "ts_ms": 1_000_000, "timestamp": 1}
TIME_UNIT_NS["ts_event"] = 1

_TEXT = ("source", "feed", "venue", "conditions", "tape", "side")
_VALUES: Final[dict[TickKind, tuple[str, ...]]] = {
    "trades": ("price", "size"),
    "quotes": ("bid", "ask", "bid_size", "ask_size"),
}
_REQUIRED: Final[dict[TickKind, tuple[str, ...]]] = {
    "trades": ("price", "size"),
    "quotes": ("bid", "ask"),
}
_KNOWN = (
    "symbol",
    *TIME_UNIT_NS,
    *_VALUES["trades"],
    *_VALUES["quotes"],
    *_TEXT,
    "trade_id",
    "ts_recv_ns",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns in the table.

    Attributes
    ----------
    values : column of each of price, size or bid, ask, bid_size, ask_size that is there
    texts : those of source, feed, venue, conditions, tape, side that are there
    """

    kind: TickKind
    time: str
    values: dict[str, str]
    texts: tuple[str, ...]
    trade_id: str | None
    ts_recv: str | None
    dictionary: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def read(self) -> list[str]:
        """All columns to read."""
        more = [name for name in (self.trade_id, self.ts_recv) if name]
        return ["symbol", self.time, *self.values.values(), *self.texts, *more]


def find_columns(schema: Any, where: str) -> Columns:
    """Find the columns of ticks in an Arrow schema; others are left out.

    Raises
    ------
    HeaderError
        A column is missing, doubled, of a type that cannot be read exactly, or excludes another.
    """
    have: list[str] = list(schema.names)
    kind = _kind(have)
    faults = [f"column '{column}' appears twice" for column in _KNOWN if have.count(column) > 1]
    times = [column for column in TIME_UNIT_NS if column in have]
    if "symbol" not in have:
        faults.append("missing symbol" + _hint("symbol", have))
    if not times:
        faults.append(f"missing a time column ({', '.join(TIME_UNIT_NS)})")
    if len(times) > 1:
        faults.append(f"more than one time column: {', '.join(times)}; keep one")
    values: dict[str, str] = {}
    for column in _VALUES[kind]:
        found = [spelt for spelt in (column, f"{column}_nanos") if spelt in have]
        if len(found) > 1:
            faults.append(f"both {found[0]} and {found[1]}; keep one")
        if found:
            values[column] = found[0]
        elif column in _REQUIRED[kind]:
            faults.append(f"missing {column}{_hint(column, have)}")
    trades = [column for column in ("price", "price_nanos", "size", "size_nanos") if column in have]
    if kind == "quotes" and trades:
        faults.append(f"columns of quotes and of trades ({', '.join(trades)}) in one table")
    texts = tuple(
        column for column in _TEXT if column in have and (kind == "trades" or column in _TEXT[:3])
    )
    trade_id = "trade_id" if "trade_id" in have and kind == "trades" else None
    ts_recv = next((column for column in ("ts_recv_ns", "ts_recv") if column in have), None)
    if not faults:
        faults = [
            *_wrong(schema, ["symbol", *texts], _is_text, "text"),
            *_wrong(schema, values.values(), _is_number, "decimal, integer, float or double"),
            *_wrong_times(schema, [times[0], *([ts_recv] if ts_recv else [])]),
            *_wrong(schema, [trade_id] if trade_id else [], _is_id, "text or integer"),
        ]
    if faults:
        raise HeaderError(
            f"{where}: the columns are not those of a tick file: {'; '.join(faults)}. Found "
            f"{', '.join(have[:50])}. Required: symbol, one of {', '.join(TIME_UNIT_NS)}, and "
            "price, size (trades) or bid, ask (quotes)"
        )
    read = {"symbol", times[0], *values.values(), *texts, trade_id, ts_recv}
    return Columns(
        kind=kind,
        time=times[0],
        values=values,
        texts=texts,
        trade_id=trade_id,
        ts_recv=ts_recv,
        dictionary=tuple(
            column
            for column in ("symbol", *texts)
            if not pa.types.is_dictionary(_type(schema, column))
        ),
        ignored=tuple(column for column in have if column not in read),
    )


def _kind(have: list[str]) -> TickKind:
    quotes = {"bid", "ask", "bid_nanos", "ask_nanos"}
    return "quotes" if quotes.intersection(have) else "trades"


def _type(schema: Any, column: str) -> Any:
    return schema.field(column).type


def _wrong(schema: Any, columns: Any, fits: Callable[[str, Any], bool], valid: str) -> list[str]:
    return [
        f"column '{column}' is {_type(schema, column)}; valid are {valid}"
        for column in columns
        if not fits(column, _type(schema, column))
    ]


def _wrong_times(schema: Any, columns: list[str]) -> list[str]:
    faults = []
    for column in columns:
        kind = _type(schema, column)
        if pa.types.is_timestamp(kind):
            if kind.tz is None:
                faults.append(
                    f"column '{column}' is {kind} without a time zone; say which it is, for "
                    "example by casting to a timestamp in UTC (Arrow: "
                    f"cast(pa.timestamp('{kind.unit}', 'UTC')), Polars: "
                    "dt.replace_time_zone('UTC'))"
                )
        elif not pa.types.is_integer(kind) or column == "timestamp":
            valid = "a timestamp with a time zone" + (
                "" if column == "timestamp" else " or an integer"
            )
            faults.append(f"column '{column}' is {kind}; valid is {valid}")
    return faults


def _is_text(_: str, kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_id(column: str, kind: Any) -> bool:
    return _is_text(column, kind) or bool(pa.types.is_integer(kind))


def _is_number(column: str, kind: Any) -> bool:
    if column.endswith("_nanos"):
        return bool(pa.types.is_integer(kind))
    if pa.types.is_decimal(kind):
        return bool(kind.bit_width <= 128 and kind.scale >= 0)
    return bool(pa.types.is_integer(kind) or pa.types.is_float64(kind) or pa.types.is_float32(kind))


def _hint(column: str, have: list[str]) -> str:
    close = get_close_matches(column, [other.strip().lower() for other in have], 1)
    spelt = [other for other in have if close and other.strip().lower() == close[0]]
    return f" (is it '{spelt[0]}'?)" if spelt else ""
