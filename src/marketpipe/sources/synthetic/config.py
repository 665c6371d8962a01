"""What a synthetic session looks like: every number the generator depends on."""

import re
from dataclasses import dataclass
from typing import Final

from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.domain.units import DAY_NS, MAX_NANOS, MAX_TS_NS, NANOS
from marketpipe.errors import UsageError

MAX_SYMBOLS: Final = 16_384
"""So many symbols still have a slot each in the table that trades are drawn from."""

MAX_SESSION_NS: Final = 2 * DAY_NS
_LAST_CLOSE_NS: Final = MAX_TS_NS - 4 * DAY_NS
_SHARE_UNITS: Final = 1_000_000
_LABEL: Final = re.compile(r"[A-Za-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticConfig:
    """The whole recipe of a generated tick stream; equal recipes give equal bytes.

    Attributes
    ----------
    symbols : names, the most active first
    sessions : ``(open_ns, close_ns)`` pairs, open inclusive, close exclusive, ns since the
        epoch, UTC, ascending and disjoint, each at most two days long
    trades : distinct trades over all sessions, shared out evenly, 1 to 10**12; or
    trades_per_symbol : the same divided by the number of symbols; exactly one of the two
    seed : any integer from 0 to 2**64 - 1
    tick_nanos : price step, 1e-9 of a currency unit; one for all symbols, or one each
    start_nanos : first price, a multiple of the step; one for all symbols, or one each. Prices
        stay between half of it and twice it
    lot : size of a round lot, in units of the instrument
    odd_lot_share : share of trades smaller than a lot, 0 to 1
    zipf_exponent : 0, 1 or 2; the k-th symbol trades in proportion to ``k ** -exponent``
    u_shape : how many times busier than midday the first and last moments are, minus one
    burst_share : chance that a trade sets off another in its symbol, 0 to 0.9
    burst_gap_ns : longest wait, in ns, between a trade and the one it sets off
    late_share : share of trades that arrive late, 0 to 1; met to within one trade
    late_max_ns : the longest such delay, in ns
    duplicate_share : share of trades sent twice under one trade id, 0 to 1; rounded down
    latency_ns : delay between a trade and its receipt when it is not late
    with_ids : give each trade a number, unique over all symbols and ascending in event time
    venues : codes drawn from evenly; empty for no venue column
    with_conditions, with_tape, with_ts_recv : add these columns

    Raises
    ------
    UsageError
        If a value is outside its range.
    """

    symbols: tuple[str, ...]
    sessions: tuple[tuple[int, int], ...]
    trades: int | None = None
    trades_per_symbol: int | None = None
    seed: int = 1
    tick_nanos: int | tuple[int, ...] = NANOS // 100
    start_nanos: int | tuple[int, ...] = 100 * NANOS
    lot: int = 100
    odd_lot_share: float = 0.2
    zipf_exponent: int = 1
    u_shape: int = 4
    burst_share: float = 0.3
    burst_gap_ns: int = NANOS // 100
    late_share: float = 0.0
    late_max_ns: int = 10 * NANOS
    duplicate_share: float = 0.0
    latency_ns: int = 50_000
    with_ids: bool = True
    venues: tuple[str, ...] = ()
    with_conditions: bool = False
    with_tape: bool = False
    with_ts_recv: bool = False

    def __post_init__(self) -> None:
        self._check_symbols()
        self._check_sessions()
        self._check_counts()
        self._check_prices()
        if self.duplicate_share and not self.with_ids:
            raise UsageError(
                "duplicate_share needs with_ids: without an id nothing tells a duplicate from a "
                f"second print; was '{self.duplicate_share}', set it to 0 or with_ids to True"
            )

    @property
    def total_trades(self) -> int:
        """Distinct trades over all sessions; duplicates come on top."""
        if self.trades is not None:
            return self.trades
        return (self.trades_per_symbol or 0) * len(self.symbols)

    @property
    def total_rows(self) -> int:
        """Rows over all sessions, duplicates included."""
        return self.total_trades + share_of(self.total_trades, self.duplicate_share)

    def ticks(self) -> tuple[int, ...]:
        """Price step of each symbol, nanos."""
        return _each(self.tick_nanos, len(self.symbols))

    def starts(self) -> tuple[int, ...]:
        """First price of each symbol, nanos."""
        return _each(self.start_nanos, len(self.symbols))

    def _check_symbols(self) -> None:
        if not 1 <= len(self.symbols) <= MAX_SYMBOLS:
            raise _range("symbols", len(self.symbols), f"1 to {MAX_SYMBOLS} names")
        if len(set(self.symbols)) != len(self.symbols):
            raise UsageError("symbols names one twice; name each once")
        for symbol in self.symbols:
            if not is_valid_symbol(symbol):
                raise _range("symbols", symbol, "a name such as AAPL, BRK.B or BTC/USD")
        for venue in self.venues:
            if not _LABEL.fullmatch(venue):
                raise _range("venues", venue, "letters and digits")

    def _check_sessions(self) -> None:
        if not self.sessions:
            raise UsageError("sessions was empty; give at least one (open_ns, close_ns) pair")
        last_close = 0
        for open_ns, close_ns in self.sessions:
            length_fits = NANOS <= close_ns - open_ns <= MAX_SESSION_NS
            if not (last_close <= open_ns and length_fits and close_ns <= _LAST_CLOSE_NS):
                raise _range(
                    "sessions",
                    (open_ns, close_ns),
                    "ascending, disjoint [open_ns, close_ns) pairs of one second to two days",
                )
            last_close = close_ns

    def _check_counts(self) -> None:
        if (self.trades is None) == (self.trades_per_symbol is None):
            raise UsageError(
                f"give either trades (was '{self.trades}') or trades_per_symbol "
                f"(was '{self.trades_per_symbol}'), not both and not neither"
            )
        _within("trades", self.total_trades, 1, 10**12)
        _within("seed", self.seed, 0, 2**64 - 1)
        _within("lot", self.lot, 2, 1_000_000)
        _within("zipf_exponent", self.zipf_exponent, 0, 2)
        _within("u_shape", self.u_shape, 0, 100)
        _within("burst_gap_ns", self.burst_gap_ns, 1, 2**32 - 1)
        _within("late_max_ns", self.late_max_ns, 1, DAY_NS)
        _within("latency_ns", self.latency_ns, 0, DAY_NS)
        _within("burst_share", self.burst_share, 0, 0.9)
        for name in ("odd_lot_share", "late_share", "duplicate_share"):
            _within(name, getattr(self, name), 0, 1)

    def _check_prices(self) -> None:
        for tick, start in zip(self.ticks(), self.starts(), strict=True):
            _within("tick_nanos", tick, 1, MAX_NANOS // 4)
            _within("start_nanos", start, 2 * tick, MAX_NANOS // 2)
            if start % tick:
                raise _range("start_nanos", start, f"a multiple of the price step {tick}")


def share_of(count: int, share: float) -> int:
    """``count * share`` rounded down, with the share read in millionths."""
    return count * round(share * _SHARE_UNITS) // _SHARE_UNITS


def _each(value: int | tuple[int, ...], count: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * count
    if len(value) != count:
        raise UsageError(
            f"tick_nanos and start_nanos are one number or one for each of the {count} symbols; "
            f"was '{len(value)}' numbers"
        )
    return value


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise _range(name, value, f"{low} to {high}")


def _range(name: str, value: object, valid: str) -> UsageError:
    return UsageError(f"{name} is out of range: was '{value}', valid is {valid}")
