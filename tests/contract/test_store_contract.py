"""What holds of the store in every database: SQLite in a file and in memory, and PostgreSQL."""

import asyncio
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe.domain.schemas import BARS
from marketpipe.errors import (
    InputError,
    NondeterminismError,
)
from marketpipe.store import (
    OUTBOX,
    BarQuery,
    BarRepository,
)
from storekit import MINUTE, OPEN, NewUrl, bar, rows_of, run, table, void

SERIES = ("source", "feed", "symbol", "price_type", "rule_set", "session", "timeframe")


def test_store_bars_added_come_back_exactly(new_url: NewUrl) -> None:
    rows = [
        bar(0),
        bar(1, symbol="BTC/USD", volume=Decimal("9" * 29 + ".999999999")),
        bar(2, symbol="ÄÖ✓", notional=Decimal("-" + "9" * 20 + ".000000000000000001")),
        bar(3, open=Decimal("-37.63"), low=Decimal("-40.32"), close=Decimal("-0.000000001")),
        bar(4, official_open=Decimal("101.5"), official_close=Decimal("999999999.999999999")),
        bar(5, volume=None, notional=None, vwap=None, recorded_at=None, price_type="bid"),
        bar(6, volume=Decimal("0.000000001"), notional=Decimal("1E-18"), state="settled"),
        bar(7, volume=Decimal(0), notional=Decimal(1000)),
        void(8, 1),
    ]

    async def work(repository: BarRepository) -> None:
        assert await repository.add(table(rows)) == len(rows)
        found = await repository.bars(BarQuery(history=True))
        assert found.schema.equals(BARS)
        found.validate(full=True)
        assert rows_of(found) == rows

    run(new_url(), work)


def test_store_bars_of_no_series_are_an_empty_table_of_the_schema(new_url: NewUrl) -> None:
    async def work(repository: BarRepository) -> None:
        for empty in (
            await repository.bars(BarQuery(symbols=("NONE",))),
            await repository.latest(BarQuery(symbols=("NONE",))),
        ):
            assert empty.schema.equals(BARS)
            assert len(empty) == 0
        assert await repository.add(table([])) == 0
        assert await repository.last_seq() == 0
        outbox = await repository.outbox(0)
        assert outbox.schema.equals(OUTBOX)
        assert len(outbox) == 0

    run(new_url(), work)


def test_store_add_repeated_changes_nothing(new_url: NewUrl) -> None:
    bars = table([bar(m, symbol=s) for m in range(40) for s in ("A", "B")])

    async def work(repository: BarRepository) -> None:
        assert await repository.add(bars) == 80
        before = await repository.outbox(0)
        assert await repository.add(bars) == 0
        assert await repository.add(bars.slice(10, 30)) == 0
        doubled = pa.concat_tables([bars.slice(60), bars.slice(60)])
        assert await repository.add(doubled) == 0
        assert (await repository.outbox(0)).equals(before)
        assert await repository.last_seq() == 80

    run(new_url(), work)


OTHER_CONTENT: dict[str, Any] = {
    "session_date": date(2026, 1, 6),
    "ts_close": OPEN + 2 * MINUTE,
    "open": Decimal("100.000000001"),
    "high": None,
    "low": Decimal(1),
    "close": Decimal("99.99"),
    "volume": Decimal("100.000000002"),
    "notional": Decimal("10000.000000000000000001"),
    "vwap": None,
    "trade_count": 77,
    "official_open": Decimal(1),
    "official_close": Decimal(1),
    "state": "settled",
    "coverage": "halted",
    "partial": False,
    "cause": "rebuild",
    "recorded_at": None,
    "known_at": OPEN,
}


def test_store_same_revision_with_other_content_is_refused_and_nothing_written(
    new_url: NewUrl,
) -> None:
    assert set(OTHER_CONTENT) == set(BARS.names) - {*SERIES, "ts_open", "revision"}

    async def work(repository: BarRepository) -> None:
        await repository.add(table([bar(0)]))
        before = await repository.outbox(0)
        for column, value in OTHER_CONTENT.items():
            rows = [bar(1), bar(0, **{column: value}), bar(2, symbol="NEW")]
            with pytest.raises(NondeterminismError, match=rf"AAA@1m.*revision 0.*'{column}'"):
                await repository.add(table(rows))
        with pytest.raises(NondeterminismError, match="'trade_count' was '9', and '8' is stored"):
            await repository.add(table([bar(5, trade_count=8), bar(5, trade_count=9)]))
        assert (await repository.outbox(0)).equals(before)
        assert await repository.last_seq() == 1
        assert [each.symbol for each in await repository.series(BarQuery())] == ["AAA"]

    run(new_url(), work)


def test_store_add_of_many_chunks_is_one_transaction(new_url: NewUrl) -> None:
    rows = [bar(m) for m in range(12_000)]
    rows.append(bar(3, trade_count=999))

    async def work(repository: BarRepository) -> None:
        with pytest.raises(NondeterminismError):
            await repository.add(table(rows))
        assert await repository.last_seq() == 0
        assert await repository.add(table(rows[:-1])) == 12_000
        assert (await repository.outbox(0, 20_000))["seq"].to_pylist() == list(range(1, 12_001))

    run(new_url(), work)


@settings(max_examples=15)
@given(data=st.data())
def test_store_any_split_and_repeat_gives_the_same_outbox(
    data: st.DataObject, postgres_or_sqlite: NewUrl
) -> None:
    keys = st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from(["A", "B"]))
    rows = [bar(m, r, symbol=s) for m, r, s in data.draw(st.lists(keys, max_size=30))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    backs = data.draw(st.lists(st.integers(0, 10), min_size=len(cuts), max_size=len(cuts)))

    async def whole(repository: BarRepository) -> pa.Table:
        await repository.add(table(rows))
        return await repository.outbox(0)

    async def pieces(repository: BarRepository) -> pa.Table:
        start = 0
        for cut, back in zip([*cuts, len(rows)], [*backs, 0], strict=True):
            await repository.add(table(rows[start:cut]))
            start = max(cut - back, 0)
        await repository.add(table(rows[start:]))
        return await repository.outbox(0)

    expected = run(postgres_or_sqlite(), whole)
    assert run(postgres_or_sqlite(), pieces).equals(expected)
    firsts = list({(r["symbol"], r["ts_open"], r["revision"]): r for r in rows}.values())
    assert rows_of(expected) == firsts
    last: dict[str, int] = {}
    for seq, row in enumerate(expected.to_pylist(), start=1):
        assert (row["seq"], row["prev_seq"]) == (seq, last.get(row["symbol"], 0))
        last[row["symbol"]] = seq


def test_store_tasks_adding_at_once_number_without_holes(new_url: NewUrl) -> None:
    async def work(repository: BarRepository) -> None:
        async with asyncio.TaskGroup() as group:
            for at in range(8):
                group.create_task(
                    repository.add(table([bar(m, symbol=f"S{at}") for m in range(50)]))
                )
        outbox = await repository.outbox(0)
        assert outbox["seq"].to_pylist() == list(range(1, 401))
        for at in range(8):
            mine = [r["ts_open"] for r in rows_of(outbox) if r["symbol"] == f"S{at}"]
            assert mine == sorted(mine)

    run(new_url(), work)


def test_store_many_symbols_in_one_query_are_all_answered(new_url: NewUrl) -> None:
    symbols = tuple(f"S{at:05}" for at in range(40_000))  # more than a statement's parameters

    async def work(repository: BarRepository) -> None:
        await repository.add(table([bar(0, symbol=s) for s in symbols[:1000]]))
        assert len(await repository.bars(BarQuery(symbols=symbols))) == 1000
        assert len(await repository.latest(BarQuery(symbols=symbols))) == 1000

    run(new_url(), work)


def test_store_bars_that_do_not_fit_are_refused(new_url: NewUrl) -> None:
    good = table([bar(0)])
    bad = {
        "column 'volume' is missing": good.drop_columns(["volume"]),
        "column 'extra' is not in": good.append_column("extra", pa.array([1])),
        "column 'open' was 'double'": good.set_column(10, "open", pa.array([1.0])),
        "column 'state' was null": good.set_column(
            good.column_names.index("state"), "state", pa.array([None], pa.string())
        ),
        "state was 'forming'": table([bar(0, state="forming")]),
    }

    async def work(repository: BarRepository) -> None:
        for words, bars in bad.items():
            with pytest.raises(InputError, match=words):
                await repository.add(bars)
        assert await repository.last_seq() == 0

    run(new_url(), work)
