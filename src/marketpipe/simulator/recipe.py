"""What a generated market looks like: every number it depends on."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from marketpipe.domain.batches import I64
from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.domain.units import DAY_NS, MAX_TS_NS, NANOS
from marketpipe.errors import UsageError
from marketpipe.simulator.market import VALID_SYMBOL, Kind
from marketpipe.sources.synthetic.draws import U64, bits, draw

MINUTE_NS: Final = 60 * NANOS
CHUNK_NS: Final = 5 * MINUTE_NS
"""Length of a chunk, which begins at a multiple of it."""

NEW_YORK: Final = ZoneInfo("America/New_York")
CRYPTO_TRADE: Final = (None, None)
"""Conditions and tape of a trade of crypto."""

_SPELLED: Final[dict[Kind, str]] = {
    "stocks": "a stock in capitals, such as AAPL or BRK.B; pairs are crypto",
    "crypto": "a pair in capitals, such as BTC/USD; names without a slash are stocks",
}
_TAPES: Final = "ABC"
_EXTRAS: Final = ("", "F", *"KLOX56BCEHNRUVW7GPZ4MQ9")
"""Conditions beside the usual ones: none, the frequent one, and all others that tables list."""

_PRICE, _DRIFT = range(200, 202)
_KNOT_CHUNKS: Final = 12
_MILLION: Final = 1_000_000
_STOCK_ID_BASES: Final = (0, 0, 52_983_500_000_000, 62_879_100_000_000, 71_675_200_000_000)
_CRYPTO_ID_BASE: Final = 3_447_222_000_000_000_000
_OPEN_MINUTES: Final = 9 * 60 + 30
_CLOSE_MINUTES: Final = 16 * 60


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a generated market is a function of.

    Attributes
    ----------
    symbols : names, the most active first; a stock's tape (A, B, C) goes by its place
    kind : stocks or crypto
    start_ns, end_ns : ns since the epoch, UTC; nothing is printed or sent before the start, nor
        at the end or after
    seed : 0 to 2**64 - 1
    trades_per_second, quotes_per_second : over all symbols, 0 to 1e6, steps of 0.001
    late_share : share of prints sent late, up to ``late_max_ns`` after the others
    cancel_share, correction_share : shares of prints, 0 to 1 together; crypto has neither. Of
        corrections, a quarter is corrected again and a quarter cancelled
    fate_max_ns : the longest time from a print to its correction or cancel, one second at least
    latency_ns : the least time from an instant to the sending of its message; the most is half
        as much again
    halt_share : share of a symbol's five minutes with a halt, stocks only
    tail_ns : so long before the end nothing is printed or quoted any more, so that the last bars
        and corrections are still sent
    venues : codes of exchanges, drawn from evenly

    Raises
    ------
    UsageError
        If a value is outside its range.
    """

    symbols: tuple[str, ...]
    kind: Kind = "stocks"
    start_ns: int
    end_ns: int
    seed: int = 1
    trades_per_second: float = 50.0
    quotes_per_second: float = 50.0
    late_share: float = 0.002
    late_max_ns: int = 90 * NANOS
    cancel_share: float = 0.001
    correction_share: float = 0.001
    fate_max_ns: int = 120 * NANOS
    latency_ns: int = 20_000_000
    halt_share: float = 0.0
    tail_ns: int = 0
    venues: tuple[str, ...] = ("V", "Q", "N", "P", "D")
    tick_nanos: int = field(init=False)
    code_table: tuple[tuple[tuple[str, ...] | None, str | None], ...] = field(init=False)

    def __post_init__(self) -> None:
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise UsageError("symbols was empty or names one twice; name each once")
        if self.kind not in ("stocks", "crypto"):
            raise _range("kind", self.kind, "stocks or crypto")
        for symbol in self.symbols:
            if not (VALID_SYMBOL[self.kind].fullmatch(symbol) and is_valid_symbol(symbol)):
                raise UsageError(
                    f"symbols of {self.kind}: was '{symbol}'; valid is {_SPELLED[self.kind]}"
                )
        _within("start_ns", self.start_ns, 0, MAX_TS_NS - 20 * DAY_NS)
        _within("end_ns", self.end_ns, self.start_ns + 1, MAX_TS_NS - 10 * DAY_NS)
        _within("seed", self.seed, 0, 2**64 - 1)
        for name in ("trades_per_second", "quotes_per_second"):
            _within(name, getattr(self, name), 0, _MILLION)
        for name in ("late_share", "cancel_share", "correction_share", "halt_share"):
            _within(name, getattr(self, name), 0, 1)
        _within("cancel_share + correction_share", self.cancel_share + self.correction_share, 0, 1)
        _within("late_max_ns", self.late_max_ns, 1, 3600 * NANOS)
        _within("fate_max_ns", self.fate_max_ns, NANOS, 3600 * NANOS)
        _within("latency_ns", self.latency_ns, 0, 10 * NANOS)
        _within("tail_ns", self.tail_ns, 0, self.end_ns - self.start_ns)
        if not 1 <= len(self.venues) <= 64:
            raise _range("venues", len(self.venues), "1 to 64 codes")
        is_crypto = self.kind == "crypto"
        object.__setattr__(self, "tick_nanos", NANOS // (1000 if is_crypto else 100))
        object.__setattr__(self, "code_table", (CRYPTO_TRADE,) if is_crypto else _code_table())
        if is_crypto:
            object.__setattr__(self, "cancel_share", 0.0)
            object.__setattr__(self, "correction_share", 0.0)

    @property
    def chunk_numbers(self) -> range:
        """The chunks that the market lies in."""
        return range(self.start_ns // CHUNK_NS, (self.end_ns - 1) // CHUNK_NS + 1)

    @property
    def horizon_ns(self) -> int:
        """So long after an instant at most, all that is ever said of it has been sent."""
        return 3 * self.fate_max_ns + self.late_max_ns + 2 * self.latency_ns + NANOS

    def tape(self, symbol: int) -> str:
        """Return the tape of a stock, by its place."""
        return _TAPES[symbol % 3]

    def count(self, per_second: float, number: int) -> int:
        """Return how many of a rate fall into a chunk."""
        per_chunk = round(per_second * 1000) * (CHUNK_NS // NANOS)
        return per_chunk * (number + 1) // 1000 - per_chunk * number // 1000

    def first_id(self, number: int) -> int:
        """Return where the ids of a chunk begin; a print may use up three.

        Ids are never used again, so that a correction near midnight has one meaning.
        """
        most = round(self.trades_per_second * 1000) * (CHUNK_NS // NANOS) // 1000 + 2
        return (number - self.chunk_numbers.start) * 4 * most

    def id_bases(self) -> I64:
        """Return what the ids of each venue begin at; those of crypto are beyond 2**53."""
        if self.kind == "crypto":
            return np.full(len(self.venues), _CRYPTO_ID_BASE, np.int64)
        bases = [_STOCK_ID_BASES[k % len(_STOCK_ID_BASES)] for k in range(len(self.venues))]
        return np.array(bases, np.int64)

    def anchors(self, number: int) -> I64:
        """Return the price (nanos) of each symbol at the begin of a chunk.

        It drifts between knots an hour apart, each within 3 % of the symbol's own price.
        """
        count = len(self.symbols)
        lowest, span = (10_000, 60_000_000) if self.kind == "crypto" else (1_000, 49_000)
        own = lowest + (draw(self.seed, _PRICE, 0, count) % np.uint64(span)).astype(np.int64)
        knot, past = divmod(number, _KNOT_CHUNKS)
        ends = []
        for k in (knot, knot + 1):
            drawn = draw(self.seed, _DRIFT, k * count, count) % np.uint64(60_001)
            ends.append(own + own * (drawn.astype(np.int64) - 30_000) // _MILLION)
        ticks: I64 = ends[0] + (ends[1] - ends[0]) * past // _KNOT_CHUNKS
        return ticks * self.tick_nanos

    def codes(self, begin_ns: int, symbol: I64, size: I64, hashes: U64) -> I64:
        """Draw the place in `code_table` of prints of a chunk that begins at ``begin_ns``."""
        if self.kind == "crypto":
            return np.zeros(len(symbol), np.int64)
        extended = 0 if in_session(begin_ns) else 1
        odd = (size < 100 * NANOS).astype(np.int64)
        luck = bits(hashes, 24, 16).astype(np.int64)
        rare = 2 + bits(hashes, 8, 16).astype(np.int64) * (len(_EXTRAS) - 2) // 65536
        # A twentieth of prints has a rare condition, a fifth the frequent one.
        extra = np.where(luck < 3_277, rare, np.where(luck < 16_384, 1, 0))
        return ((symbol % 3 * 2 + extended) * 2 + odd) * len(_EXTRAS) + extra


@lru_cache(maxsize=1 << 10)
def ny_minutes(ts_ns: int) -> int:
    """Return the minutes since midnight in New York, rounded down."""
    local = datetime.fromtimestamp(ts_ns // NANOS, UTC).astimezone(NEW_YORK)
    return local.hour * 60 + local.minute


@lru_cache(maxsize=1 << 10)
def ny_midnight(ts_ns: int) -> int:
    """Return the begin (ns, UTC) of the day in New York."""
    local = datetime.fromtimestamp(ts_ns // NANOS, UTC).astimezone(NEW_YORK)
    return int(local.replace(hour=0, minute=0, second=0, fold=0).timestamp()) * NANOS


def in_session(ts_ns: int) -> bool:
    """Tell whether the regular session is on, by the clock in New York; each day is one."""
    return _OPEN_MINUTES <= ny_minutes(ts_ns) < _CLOSE_MINUTES


def _code_table() -> tuple[tuple[tuple[str, ...], str], ...]:
    table = []
    for tape in _TAPES:
        regular = "@" if tape == "C" else " "
        for extended in ("", "T"):
            for odd in ("", "I"):
                for extra in _EXTRAS:
                    words = (regular, extra, extended, odd)
                    table.append((tuple(word for word in words if word), tape))
    return tuple(table)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise _range(name, value, f"{low} to {high}")


def _range(name: str, value: object, valid: str) -> UsageError:
    return UsageError(f"{name} is out of range: was '{value}', valid is {valid}")
