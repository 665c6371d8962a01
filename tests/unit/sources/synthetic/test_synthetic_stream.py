"""The generated stream: its shape, its counts, and that it repeats."""

import hashlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from marketpipe.domain.batches import TradeBatch
from marketpipe.sources.synthetic import SyntheticConfig, SyntheticSource

SECOND = 1_000_000_000
OPEN_NS = 1_767_623_400 * SECOND  # 2026-01-05T14:30:00Z
SESSION = (OPEN_NS, OPEN_NS + 23_400 * SECOND)
NEXT_SESSION = tuple(edge + 86_400 * SECOND for edge in SESSION)

REQUIRED = ("stream", "row", "ts_event", "price", "size")
COLUMNS = (*REQUIRED, "id_lo", "venue", "conditions", "tape", "ts_recv")

CONFIG = SyntheticConfig(
    symbols=("AAPL", "MSFT", "BRK.B", "SPY"), sessions=(SESSION,), trades=100_000, seed=7
)
MESSY = replace(
    CONFIG,
    sessions=(SESSION, (NEXT_SESSION[0], NEXT_SESSION[1])),
    trades=150_001,
    late_share=0.01,
    duplicate_share=0.003,
    venues=("V", "K", "Q"),
    with_conditions=True,
    with_tape=True,
    with_ts_recv=True,
)


def read(config: SyntheticConfig, batch_rows: int = 1 << 18) -> list[TradeBatch]:
    return list(SyntheticSource(config, batch_rows=batch_rows).batches())


def column(batches: list[TradeBatch], name: str) -> npt.NDArray[np.int64]:
    return np.concatenate([getattr(batch, name) for batch in batches]).astype(np.int64)


def digest(batches: list[TradeBatch]) -> str:
    names = [
        "stream",
        "row",
        "ts_event",
        "price",
        "size",
        "id_lo",
        "venue",
        "conditions",
        "tape",
        "ts_recv",
    ]
    together = hashlib.sha256()
    for name in names:
        if getattr(batches[0], name) is not None:
            together.update(column(batches, name).astype("<i8").tobytes())
    return together.hexdigest()


def test_stream_read_twice_gives_the_same_rows() -> None:
    source = SyntheticSource(MESSY)
    assert digest(list(source.batches())) == digest(list(source.batches()))


@pytest.mark.parametrize("batch_rows", [997, 65_536, 10**6])
def test_stream_cut_into_other_batches_gives_the_same_rows(batch_rows: int) -> None:
    pieces = read(MESSY, batch_rows)
    assert {len(piece) for piece in pieces[:-1]} <= {batch_rows}
    assert digest(pieces) == digest(read(MESSY))


def test_stream_with_another_seed_is_another_stream() -> None:
    assert digest(read(CONFIG)) != digest(read(replace(CONFIG, seed=8)))


def test_times_stay_inside_the_sessions_and_ascend() -> None:
    batches = read(replace(MESSY, late_share=0.0, duplicate_share=0.0))
    ts = column(batches, "ts_event")
    inside = [(ts >= open_ns) & (ts < close_ns) for open_ns, close_ns in MESSY.sessions]
    assert [int(part.sum()) for part in inside] == [75_000, 75_001]
    assert (np.diff(ts) >= 0).all()


def test_volume_is_u_shaped_five_times_busier_at_the_ends() -> None:
    # 1 + 4 (2x - 1)^2 over thirteenths of the session: 4.417 at either end, 1.008 in the middle.
    counts = np.histogram(column(read(CONFIG), "ts_event"), bins=13, range=SESSION)[0]
    ratio = counts[[0, -1]] / counts[6]
    assert ratio == pytest.approx([4.417 / 1.008] * 2, rel=0.05)


def test_symbols_are_busy_by_rank() -> None:
    # Shares of 1, 1/2, 1/3, 1/4: 12, 6, 4 and 3 of 25.
    counts = np.bincount(column(read(CONFIG), "stream"))
    assert counts / counts.sum() == pytest.approx(np.array([12, 6, 4, 3]) / 25, rel=0.03)


def test_symbols_without_zipf_are_equally_busy() -> None:
    counts = np.bincount(column(read(replace(CONFIG, zipf_exponent=0)), "stream"))
    assert counts == pytest.approx([25_000] * 4, rel=0.05)


def test_bursts_put_trades_of_one_symbol_close_together() -> None:
    def close_pairs(config: SyntheticConfig) -> int:
        batches = read(config)
        order = np.lexsort((column(batches, "ts_event"), column(batches, "stream")))
        gaps = np.diff(column(batches, "ts_event")[order])
        return int(((gaps >= 0) & (gaps < CONFIG.burst_gap_ns)).sum())

    # A share of 0.3 sets off 30,000 followers within the gap; chance alone gives about 3,000.
    assert close_pairs(CONFIG) > 28_000
    assert close_pairs(replace(CONFIG, burst_share=0.0)) < 6_000


def test_prices_are_multiples_of_each_symbols_step_within_half_and_twice_the_start() -> None:
    steps = np.array([10**7, 5 * 10**7, 10**9, 10**5])
    starts = np.array([100 * 10**9, 20 * 10**9, 4 * 10**9, 3 * 10**5])
    config = replace(CONFIG, tick_nanos=tuple(steps.tolist()), start_nanos=tuple(starts.tolist()))
    batches = read(config)
    price, stream = column(batches, "price"), column(batches, "stream")
    assert not (price % steps[stream]).any()
    assert (price > 0).all()
    assert (2 * price >= starts[stream] - steps[stream]).all()
    assert (price <= 2 * starts[stream]).all()
    assert all(len(np.unique(price[stream == code])) > 3 for code in range(4))


def test_prices_move_by_two_steps_at_most_from_trade_to_trade() -> None:
    batches = read(CONFIG)
    price = column(batches, "price")[column(batches, "stream") == 0]
    moves = np.unique(np.abs(np.diff(price))) // 10**7
    assert moves.tolist() == [0, 1, 2]


def test_sizes_hold_the_share_of_odd_lots_asked_for() -> None:
    units, rest = np.divmod(column(read(CONFIG), "size"), SECOND)
    assert not rest.any()
    odd = units < 100
    assert odd.mean() == pytest.approx(0.2, abs=0.01)
    assert (units > 0).all()
    assert not (units[~odd] % 100).any()


def test_late_trades_number_exactly_the_share_and_stay_within_the_bound() -> None:
    config = replace(MESSY, duplicate_share=0.0, late_max_ns=SECOND)
    batches = read(config)
    delay = column(batches, "ts_recv") - column(batches, "ts_event") - config.latency_ns
    assert int((delay > 0).sum()) == 1_500  # 1 % of 150,001, rounded down
    assert int(delay.max()) <= SECOND
    assert (np.diff(column(batches, "ts_recv")) >= 0).all()
    assert int((np.diff(column(batches, "ts_event")) < 0).sum()) > 1_000
    assert sorted(column(batches, "id_lo")) == list(range(1, 150_002))


def test_late_trades_are_the_same_trades_in_another_order() -> None:
    on_time = read(replace(MESSY, late_share=0.0, duplicate_share=0.0))
    late = read(replace(MESSY, duplicate_share=0.0))
    order = np.argsort(column(late, "id_lo"))
    for name in ("stream", "ts_event", "price", "size", "venue"):
        assert np.array_equal(column(late, name)[order], column(on_time, name))


def test_duplicates_number_exactly_the_share_and_repeat_the_trade() -> None:
    batches = read(MESSY)
    ids = column(batches, "id_lo")
    assert len(ids) == MESSY.total_rows == 150_001 + 450
    unique, first, counts = np.unique(ids, return_index=True, return_counts=True)
    assert len(unique) == 150_001
    assert int((counts == 2).sum()) == 450
    for name in ("stream", "ts_event", "price", "size", "venue"):
        values = column(batches, name)
        assert np.array_equal(values, values[first][ids - 1])


def test_optional_columns_are_absent_unless_asked_for() -> None:
    batch = read(replace(CONFIG, with_ids=False))[0]
    optional = (batch.id_hi, batch.id_lo, batch.venue, batch.conditions, batch.tape, batch.ts_recv)
    assert optional == (None,) * 6


def test_optional_columns_hold_codes_of_the_dictionaries() -> None:
    batch = read(MESSY)[0]
    names = batch.dictionaries
    assert batch.venue is not None
    assert batch.conditions is not None
    assert batch.tape is not None
    assert {names.venues[code] for code in np.unique(batch.venue)} == {"V", "K", "Q"}
    odd = batch.size < 100 * SECOND
    assert {names.conditions[code] for code in np.unique(batch.conditions[odd])} == {"@ I"}
    assert {names.conditions[code] for code in np.unique(batch.conditions[~odd])} == {"@"}
    assert {names.tapes[code] for code in np.unique(batch.tape)} == {"A", "B", "C"}


def test_source_says_plainly_that_its_ticks_are_generated() -> None:
    source = SyntheticSource(CONFIG)
    assert source.kind == "trades"
    assert source.describe().startswith("synthetic, generated ticks: 100,000 rows, 4 symbols")
    assert {key.source for key in next(source.batches()).dictionaries.streams} == {"synthetic"}


def test_progress_and_counts_reach_the_total() -> None:
    source = SyntheticSource(MESSY, batch_rows=50_000)
    seen = [source.progress() for _ in source.batches()]
    assert seen == [(min(50_000 * k, 150_451), 150_451) for k in range(1, 5)]
    assert source.counts().rows == 150_451
