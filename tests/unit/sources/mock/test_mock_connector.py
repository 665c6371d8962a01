"""The mock connector: order, injection, pace, and what it refuses."""

from pathlib import Path

import pytest

from marketpipe.errors import HeaderError, UsageError
from marketpipe.sources.mock import MockConnector, MockTick
from marketpipe.sources.synthetic import SyntheticConfig, SyntheticSource

SECOND = 1_000_000_000
TRADES = """symbol,ts_ns,price,size
AAPL,3000000000,100.03,3
MSFT,1000000000,400.01,1
AAPL,1000000000,100.01,2
AAPL,2000000000,oops,2
AAPL,6000000000,100.06,0.5
"""
EXPECTED = [
    MockTick("MSFT", 1 * SECOND, 400_010_000_000, 1_000_000_000, 3),
    MockTick("AAPL", 1 * SECOND, 100_010_000_000, 2_000_000_000, 4),
    MockTick("AAPL", 3 * SECOND, 100_030_000_000, 3_000_000_000, 2),
    MockTick("AAPL", 6 * SECOND, 100_060_000_000, 500_000_000, 6),
]


def never(_: object) -> None:
    raise AssertionError("called")


@pytest.fixture
def trades(tmp_path: Path) -> Path:
    path = tmp_path / "trades.csv"
    path.write_text(TRADES)
    return path


def test_replay_of_an_unordered_file_is_in_event_order(trades: Path) -> None:
    connector = MockConnector()
    seen: list[MockTick] = []
    assert connector.load_from_csv(trades) == 4
    assert connector.replay_ticks(seen.append) == 4
    assert seen == EXPECTED


def test_replay_twice_gives_the_same_ticks(trades: Path) -> None:
    connector = MockConnector()
    connector.load_from_csv(trades)
    assert list(connector.ticks()) == list(connector.ticks()) == EXPECTED


def test_load_keeps_the_bad_rows_with_their_lines(trades: Path) -> None:
    connector = MockConnector()
    connector.load_from_csv(trades)
    assert [(row.row, row.field) for row in connector.bad_rows] == [(5, "price")]


def test_load_with_symbols_leaves_the_others_out(trades: Path) -> None:
    connector = MockConnector()
    assert connector.load_from_csv(trades, symbols=frozenset({"MSFT"})) == 1
    assert list(connector.ticks()) == EXPECTED[:1]


def test_load_of_two_sources_joins_them_by_time(tmp_path: Path, trades: Path) -> None:
    second = tmp_path / "second.csv"
    second.write_text("symbol,ts_ns,price,size\nSPY,1000000000,1,1\nSPY,4000000000,1,1\n")
    connector = MockConnector()
    connector.load_from_csv(trades)
    connector.load_from_csv(second)
    found = [(tick.symbol, tick.ts_event_ns // SECOND) for tick in connector.ticks()]
    first, then = [("MSFT", 1), ("AAPL", 1), ("SPY", 1)], [("AAPL", 3), ("SPY", 4), ("AAPL", 6)]
    assert found == first + then


def test_load_of_a_generated_source_replays_every_row() -> None:
    config = SyntheticConfig(
        symbols=("A", "B"), sessions=((0, 60 * SECOND),), trades=40_000, late_share=0.1
    )
    connector = MockConnector()
    assert connector.load(SyntheticSource(config)) == 40_000
    times = [tick.ts_event_ns for tick in connector.ticks()]
    assert len(times) == 40_000
    assert times == sorted(times)


def test_replay_of_nothing_calls_nothing() -> None:
    assert MockConnector().replay_ticks(never) == 0


def test_injected_tick_comes_next_whatever_its_time(trades: Path) -> None:
    connector = MockConnector()
    connector.load_from_csv(trades)
    seen: list[MockTick] = []

    def on_tick(tick: MockTick) -> None:
        seen.append(tick)
        if tick == EXPECTED[2]:
            connector.inject_tick("AAPL", 5, 7, 0)

    assert connector.replay_ticks(on_tick) == 5
    assert seen == [*EXPECTED[:3], MockTick("AAPL", 5, 7, 0, 0), EXPECTED[3]]


def test_injected_ticks_are_handed_out_once_even_with_nothing_loaded() -> None:
    connector = MockConnector()
    ticks = [connector.inject_tick("AAPL", ts, 1, 1) for ts in (2, 1)]
    assert list(connector.ticks()) == ticks
    assert list(connector.ticks()) == []


def test_replay_at_a_speed_waits_the_gaps_of_event_time(trades: Path) -> None:
    waited: list[float] = []
    connector = MockConnector(sleep=waited.append)
    connector.load_from_csv(trades)
    ticks = connector.ticks(speed=2.0)
    assert next(ticks) == EXPECTED[0]
    connector.inject_tick("AAPL", 0, 1, 1)
    assert len(list(ticks)) == 4
    assert waited == [1.0, 1.5]  # 1 s → 3 s → 6 s at twice the pace; late prints wait for nothing


def test_replay_without_a_speed_never_waits(trades: Path) -> None:
    connector = MockConnector(sleep=never)
    connector.load_from_csv(trades)
    assert connector.replay_ticks(lambda _: None) == 4


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_speed_not_above_zero_is_refused(speed: float) -> None:
    with pytest.raises(UsageError, match="speed was"):
        MockConnector(sleep=never).ticks(speed=speed)


def test_speed_without_a_way_to_sleep_is_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"MockConnector\(sleep=time\.sleep\)"):
        MockConnector().ticks(speed=1.0)


def test_load_of_quotes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    path.write_text("symbol,ts_ns,bid,ask\nEUR/USD,1,1.1,1.2\n")
    connector = MockConnector()
    with pytest.raises(UsageError, match="holds quotes"):
        connector.load_from_csv(path)
    assert list(connector.ticks()) == []


def test_load_of_a_file_without_a_price_says_so(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("symbol,ts_ns,size\nA,1,1\n")
    with pytest.raises(HeaderError, match="price"):
        MockConnector().load_from_csv(path)


@pytest.mark.parametrize(
    ("tick", "said"),
    [
        (("../x", 1, 1, 1), "symbol"),
        (("A", -1, 1, 1), "ts_event_ns"),
        (("A", 1, 10**18, 1), "price_nanos"),
        (("A", 1, 1, -1), "size_nanos"),
    ],
)
def test_injected_tick_out_of_range_is_refused(tick: tuple[str, int, int, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        MockConnector().inject_tick(*tick)
