"""The header line: which column holds what, or an error that says what is wrong with it."""

import csv
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

import numpy as np

from marketpipe.domain.batches import I64, TickKind
from marketpipe.errors import HeaderError
from marketpipe.sources.csvfile import _intern_kernel as intern
from marketpipe.sources.csvfile import _rows_kernel as rows

TIME_COLUMNS: Final = ("ts_ns", "ts_us", "ts_ms", "timestamp")
TRADE_COLUMNS: Final = ("price", "size", "trade_id", "conditions", "tape", "side")
QUOTE_COLUMNS: Final = ("bid", "ask", "bid_size", "ask_size")
SHARED_COLUMNS: Final = ("source", "feed", "venue", "ts_recv_ns")

_VALID = ("symbol", *TIME_COLUMNS, *TRADE_COLUMNS, *QUOTE_COLUMNS, *SHARED_COLUMNS)
_UNIT_NS = {"ts_ns": 1, "ts_us": 1_000, "ts_ms": 1_000_000}
_DICTIONARY = {
    "source": intern.SOURCE,
    "feed": intern.FEED,
    "venue": intern.VENUE,
    "conditions": intern.CONDITIONS,
    "tape": intern.TAPE,
}
_OTHER_NAMES = {
    "ticker": "symbol",
    "instrument": "symbol",
    "qty": "size",
    "quantity": "size",
    "volume": "size",
    "amount": "size",
    "time": "timestamp",
    "date": "timestamp",
    "datetime": "timestamp",
    "ts": "ts_ns",
    "ts_event": "ts_ns",
    "exchange": "venue",
    "bid_price": "bid",
    "ask_price": "ask",
    "bidsize": "bid_size",
    "asksize": "ask_size",
    "id": "trade_id",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the columns hold.

    Attributes
    ----------
    raw : the header line as received, without its end
    columns : names in the order of the file
    take : int64, what the kernel does with each column
    number_of, code_of : output row of each int64 and int32 column
    """

    kind: TickKind
    raw: bytes
    columns: tuple[str, ...]
    take: I64
    number_of: dict[str, int]
    code_of: dict[str, int]

    @property
    def columns_of_note(self) -> I64:
        """Positions of ``symbol`` and, for quotes, ``bid`` (else -1)."""
        bid = self.columns.index("bid") if self.kind == "quotes" else -1
        return np.array([self.columns.index("symbol"), bid], np.int64)


def parse_header(raw: bytes, name: str) -> Layout:
    """Read the header line of a tick file.

    Raises
    ------
    HeaderError
        A column is missing, unknown, doubled, or excludes another one.
    """
    columns = _split(raw, name)
    _check(columns, name)
    kind: TickKind = "quotes" if "bid" in columns else "trades"
    number_of = {"row": rows.ROW, "ts_event": rows.TS_EVENT}
    first, second = ("bid", "ask") if kind == "quotes" else ("price", "size")
    number_of |= {first: rows.FIRST_VALUE, second: rows.SECOND_VALUE}
    code_of = {"stream": 0}
    take = np.zeros((len(columns), 3), np.int64)
    for k, column in enumerate(columns):
        take[k] = _take(column, number_of, code_of)
    return Layout(
        kind=kind,
        raw=raw,
        columns=columns,
        take=take,
        number_of=number_of,
        code_of=code_of,
    )


def _take(column: str, number_of: dict[str, int], code_of: dict[str, int]) -> tuple[int, int, int]:
    if column in _UNIT_NS:
        return rows.TAKE_EPOCH, rows.TS_EVENT, _UNIT_NS[column]
    if column == "timestamp":
        return rows.TAKE_INSTANT, rows.TS_EVENT, 1
    if column in ("price", "size"):
        return rows.TAKE_DECIMAL, number_of[column], 0
    if column in ("source", "feed"):
        return rows.TAKE_NAME, 0, _DICTIONARY[column]
    if column in _DICTIONARY:
        return rows.TAKE_TEXT, code_of.setdefault(column, len(code_of)), _DICTIONARY[column]
    if column in QUOTE_COLUMNS:
        place = number_of.setdefault(column, len(number_of))
        return rows.TAKE_DECIMAL_OR_NULL, place, 0
    if column == "ts_recv_ns":
        return rows.TAKE_EPOCH_OR_NULL, number_of.setdefault("ts_recv", len(number_of)), 1
    if column == "trade_id":
        place = number_of.setdefault("id_hi", len(number_of))
        number_of["id_lo"] = len(number_of)
        return rows.TAKE_ID, place, 0
    if column == "side":
        return rows.TAKE_SIDE, 0, 0
    return rows.TAKE_SYMBOL, 0, 0


def _split(raw: bytes, name: str) -> tuple[str, ...]:
    try:
        text = raw.decode("utf-8")
        return tuple(next(csv.reader([text], strict=True), []))
    except UnicodeDecodeError as error:
        raise HeaderError(
            f"{name}: the header line is not UTF-8: it starts {raw[:16]!r}. A tick CSV is text "
            "in UTF-8, plain or packed as gzip or zstd; convert the file, or use --parquet or "
            "--dbn for those formats"
        ) from error
    except csv.Error as error:
        raise HeaderError(f"{name}: the header line cannot be split: {error}") from error


def _check(columns: tuple[str, ...], name: str) -> None:
    have = set(columns)
    faults = [
        *_missing(have),
        *(f"unknown column {_shown(column)}" for column in columns if column not in _VALID),
        *(f"column '{column}' appears more than once" for column in _doubled(columns)),
    ]
    times = [column for column in TIME_COLUMNS if column in have]
    if len(times) > 1:
        faults.append(f"more than one time column: {', '.join(times)}; keep one")
    trade = [column for column in TRADE_COLUMNS if column in have]
    quote = [column for column in QUOTE_COLUMNS if column in have]
    if trade and quote:
        faults.append(
            f"columns of trades ({', '.join(trade)}) and of quotes ({', '.join(quote)}) in one "
            "file; split it"
        )
    if faults:
        raise HeaderError(
            f"{name}: the header is not that of a tick file: {_cut('; '.join(faults), 2000)}. "
            f"It was '{_cut(','.join(columns), 200)}'. Required: symbol, one of "
            f"{', '.join(TIME_COLUMNS)}, and price, size (trades) or bid, ask (quotes). "
            f"Optional: {', '.join((*SHARED_COLUMNS, *TRADE_COLUMNS[2:]))} (trades), "
            f"{', '.join((*SHARED_COLUMNS, *QUOTE_COLUMNS[2:]))} (quotes)"
        )


def _missing(have: set[str]) -> list[str]:
    missing = [] if "symbol" in have else ["symbol"]
    if not have.intersection(TIME_COLUMNS):
        missing.append(f"a time column ({', '.join(TIME_COLUMNS)})")
    if have.intersection(QUOTE_COLUMNS):
        missing += [column for column in ("bid", "ask") if column not in have]
    elif have.intersection(TRADE_COLUMNS):
        missing += [column for column in ("price", "size") if column not in have]
    else:
        missing.append("price and size, or bid and ask")
    return [f"missing {what}" for what in missing]


def _shown(column: str) -> str:
    plain = column.strip().lower().replace(" ", "_")
    close = [_OTHER_NAMES[plain]] if plain in _OTHER_NAMES else get_close_matches(plain, _VALID, 1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    return f"'{_cut(column, 60)}'{hint}"


def _cut(text: str, size: int) -> str:
    shown = text if len(text) <= size else f"{text[:size]}…"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)


def _doubled(columns: tuple[str, ...]) -> list[str]:
    return [column for column, count in Counter(columns).items() if count > 1]
