"""A live feed made beforehand: frames of ten trades, about 150 bytes each, as Alpaca sends them."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from marketpipe.domain.units import NANOS, format_ns

SYMBOLS: Final = tuple(f"S{k:03d}" for k in range(500))
PER_FRAME: Final = 10
OPEN_NS: Final = 1_767_623_400 * NANOS  # 2026-01-05T14:30:00Z, a Monday
_SEED: Final = 7
_VENUES: Final = np.array(list("VQNPZKDB"))
_CONDITIONS: Final = ('["@"]', '["@"]', '["@","I"]', '["@","F"]', '["@","F","I"]')
_FIRST_ID: Final = 52_983_525_000_000


class Second(NamedTuple):
    """One second of the feed.

    Attributes
    ----------
    ends_ns : when the clock ticks after it
    frames : each with when it was received, ns
    """

    ends_ns: int
    frames: list[tuple[int, bytes]]


def seconds(messages: int, per_second: int) -> Iterator[Second]:
    """Give a feed of so many messages, second by second; the same each time.

    Each message ends with a key that the parser does not know, as vendors add them over time. A
    symbol's trades wander by cents; ids ascend within a symbol and venue, prices have two to
    four decimals, one symbol in ten has a third of the trades.
    """
    draws = np.random.default_rng(_SEED)
    cents = draws.integers(2_000, 60_000, len(SYMBOLS))
    for number in range(messages // per_second):
        start = OPEN_NS + number * NANOS
        yield Second(start + NANOS, _frames(draws, cents, start, number * per_second, per_second))


def _frames(
    draws: np.random.Generator, cents: np.ndarray, start: int, first: int, count: int
) -> list[tuple[int, bytes]]:
    symbol = np.minimum(draws.integers(0, 500, count), draws.integers(0, 750, count)) % 500
    np.add.at(cents, symbol, draws.integers(-2, 3, count))
    np.maximum(cents, 100, out=cents)
    at = start + np.sort(draws.integers(0, NANOS, count))
    columns = (
        symbol.tolist(),
        _VENUES[draws.integers(0, len(_VENUES), count)].tolist(),
        cents[symbol].tolist(),
        draws.integers(1, 100, count).tolist(),
        draws.integers(0, 500_000, count).tolist(),
        draws.integers(0, len(_CONDITIONS), count).tolist(),
        at.tolist(),
    )
    texts = [
        f'{{"T":"t","S":"{SYMBOLS[s]}","i":{_FIRST_ID + first + k},"x":"{x}",'
        f'"p":{c // 100}.{c % 100:02d}{"" if c % 5 else c % 89 + 10},"s":{size},'
        f'"t":"{format_ns(ts - lag)}","c":{_CONDITIONS[cond]},"z":"C","pt":{ts - lag - 1}}}'
        for k, (s, x, c, size, lag, cond, ts) in enumerate(zip(*columns, strict=True))
    ]
    return [
        (
            columns[-1][min(k + PER_FRAME, count) - 1],
            f"[{','.join(texts[k : k + PER_FRAME])}]".encode(),
        )
        for k in range(0, count, PER_FRAME)
    ]
