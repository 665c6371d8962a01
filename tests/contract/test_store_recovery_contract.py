"""Outbox, retention, checkpoints, kills and cancellations of the store, in every database."""

import asyncio
import itertools
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from marketpipe.domain.findings import Example, Findings
from marketpipe.errors import (
    NewerVersionError,
    NondeterminismError,
    StoreError,
    UsageError,
)
from marketpipe.store import (
    BarQuery,
    BarRepository,
    Checkpoint,
    CheckpointStore,
    FindingsStore,
)
from storekit import FIRST_DAY, OPEN, NewUrl, Row, bar, rows_of, run, table


def day(rows: list[Row], number: int) -> list[Row]:
    """Move rows to another session: ``number`` days later."""
    shift = number * 86_400_000_000_000
    moved = []
    for row in rows:
        times = {n: row[n] + shift for n in ("ts_open", "ts_close", "recorded_at", "known_at")}
        moved.append(row | times | {"session_date": FIRST_DAY + timedelta(days=number)})
    return moved


def test_store_outbox_names_the_row_before_of_the_same_topic(new_url: NewUrl) -> None:
    rows = [
        bar(0),
        bar(0, symbol="B"),
        bar(1),
        bar(0, timeframe="5m"),
        bar(0, 1),
        bar(1, symbol="B"),
    ]

    async def work(repository: BarRepository) -> None:
        await repository.add(table(rows[:3]))
        await repository.add(table(rows[3:]))
        outbox = await repository.outbox(0)
        assert outbox["seq"].to_pylist() == [1, 2, 3, 4, 5, 6]
        assert outbox["prev_seq"].to_pylist() == [0, 0, 1, 0, 3, 2]
        assert rows_of(outbox) == rows
        assert (await repository.outbox(2, 3))["seq"].to_pylist() == [3, 4, 5]
        assert len(await repository.outbox(6)) == 0
        with pytest.raises(UsageError, match="limit: was '0'"):
            await repository.outbox(0, 0)

    run(new_url(), work)


def test_store_prune_takes_old_sessions_and_knows_them_again(new_url: NewUrl) -> None:
    old = [bar(m) for m in range(30)]
    new = day(old, 3)

    async def work(repository: BarRepository) -> None:
        await repository.add(table(old + new))
        assert await repository.floor() is None
        assert await repository.prune(FIRST_DAY + timedelta(days=1)) == 30
        assert await repository.floor() == FIRST_DAY + timedelta(days=1)
        assert rows_of(await repository.bars(BarQuery())) == new
        assert await repository.add(table(old + new)) == 0
        with pytest.raises(NondeterminismError, match="retention took"):
            await repository.add(table([bar(0, trade_count=99)]))
        assert await repository.add(table([bar(0, 1)])) == 1
        late = (await repository.outbox(60)).to_pylist()[0]
        assert (late["seq"], late["prev_seq"], late["revision"]) == (61, 60, 1)
        assert await repository.prune(FIRST_DAY) == 0
        assert await repository.floor() == FIRST_DAY + timedelta(days=1)

    run(new_url(), work)


def test_store_prune_waits_for_the_readers_of_the_outbox(new_url: NewUrl) -> None:
    async def work(repository: BarRepository) -> None:
        await repository.add(table([bar(m) for m in range(30)]))
        await repository.confirm("redis", 10)
        await repository.confirm("lake", 20)
        await repository.confirm("redis", 5)
        assert await repository.readers() == {"lake": 20, "redis": 10}
        tomorrow = FIRST_DAY + timedelta(days=1)
        assert await repository.prune(tomorrow) == 10
        assert (await repository.outbox(10))["seq"].to_pylist() == list(range(11, 31))
        with pytest.raises(StoreError, match=r"after_seq was '9'.*up to seq 10"):
            await repository.outbox(9)
        await repository.forget("redis")
        assert await repository.prune(tomorrow) == 10
        await repository.confirm("lake", 30)
        assert await repository.prune(tomorrow) == 10
        assert await repository.last_seq() == 30
        assert await repository.add(table([bar(30)])) == 1
        assert await repository.last_seq() == 31

    run(new_url(), work)


def test_store_version_changes_with_the_series_asked_for_only(new_url: NewUrl) -> None:
    async def work(repository: BarRepository) -> None:
        query = BarQuery(symbols=("AAA",), timeframe="1m")
        seen = [await repository.version(query)]
        for row in (bar(0), bar(0, symbol="B"), bar(0, timeframe="5m"), bar(1), bar(0, feed="x")):
            await repository.add(table([row]))
            seen.append(await repository.version(query))
        assert [a == b for a, b in itertools.pairwise(seen)] == [False, True, True, False, False]
        await repository.prune(date(2027, 1, 1))
        assert await repository.version(query) == seen[-1]

    run(new_url(), work)


def checkpoint(offset: int, **other: Any) -> Checkpoint:
    parts: dict[str, Any] = {
        "pipeline": "live",
        "journal_id": "alpaca",
        "offset": offset,
        "versions": {"code": "1", "rules": "plain"},
        "state": bytes(range(256)) * 40,
        "saved_at_ns": OPEN + offset,
    }
    return Checkpoint(**(parts | other))


def test_checkpoints_are_replaced_whole_and_never_step_back(new_url: NewUrl) -> None:
    async def work(repository: BarRepository) -> None:
        store = CheckpointStore(repository.database)
        assert await store.load("live", "alpaca") is None
        for offset in (0, 7, 7, 2**62):
            await store.save(checkpoint(offset, state=bytes([offset % 251])))
            assert await store.load("live", "alpaca") == checkpoint(
                offset, state=bytes([offset % 251])
            )
        await store.save(checkpoint(3, journal_id="finnhub"))
        with pytest.raises(StoreError, match="offset was '8', and 4611686018427387904 is stored"):
            await store.save(checkpoint(8))
        stored = await store.load("live", "alpaca")
        assert stored is not None
        assert stored.offset == 2**62
        await store.discard("live", "alpaca")
        assert await store.load("live", "alpaca") is None
        await store.save(checkpoint(8))
        assert await store.load("live", "finnhub") == checkpoint(3, journal_id="finnhub")

    run(new_url(), work)


def test_findings_are_replaced_whole_per_pipeline(new_url: NewUrl) -> None:
    total = Findings.of("late", 3, [Example(4, "price", "1,5 ✓")]) + Findings.of("duplicate", 2**40)

    async def work(repository: BarRepository) -> None:
        store = FindingsStore(repository.database)
        assert await store.load("live") == Findings()
        await store.save("live", Findings.of("crossed_quote", 1))
        await store.save("batch", Findings.of("late", 1))
        await store.save("live", total)
        assert await store.load("live") == total
        assert await store.load("batch") == Findings.of("late", 1)
        every = {"batch": Findings.of("late", 1), "live": total}
        assert list((await store.every()).items()) == list(every.items())

    run(new_url(), work)


def test_store_schema_of_a_newer_version_is_refused_and_left_alone(
    postgres_or_sqlite: NewUrl,
) -> None:
    url = postgres_or_sqlite()

    async def spoil(repository: BarRepository) -> None:
        async with repository.database.writing() as connection:
            await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    run(url, spoil)
    with pytest.raises(NewerVersionError, match=r"was '9999'.*knows 0001"):
        run(url, spoil)


def test_store_opened_at_once_by_several_is_made_once(postgres_or_sqlite: NewUrl) -> None:
    url = postgres_or_sqlite()

    async def whole() -> list[int]:
        opened = await asyncio.gather(*(BarRepository.open(url) for _ in range(4)))
        counts = [await each.add(table([bar(0)])) for each in opened]
        for each in opened:
            await each.close()
        return counts

    assert asyncio.run(whole()) == [1, 0, 0, 0]


def test_store_url_of_the_documents_works_with_and_without_a_driver(
    postgres_or_sqlite: NewUrl,
) -> None:
    url = postgres_or_sqlite()
    kind, rest = url.split(":", 1)
    spellings = {
        "sqlite": ["sqlite", "sqlite+aiosqlite"],
        "postgresql": ["postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg2"],
    }
    for spelling in spellings[kind]:
        counted = run(f"{spelling}:{rest}", lambda repository: repository.last_seq())
        assert counted == 0


def test_store_add_cancelled_midway_is_whole_or_nothing_and_the_next_works(
    postgres_or_sqlite: NewUrl,
) -> None:
    tables = [table([bar(m, symbol=f"S{at}") for m in range(10_000)]) for at in range(4)]

    async def work(repository: BarRepository) -> None:
        expected = 0
        for wait_s, bars in zip((0.0, 0.01, 0.05, 0.1), tables, strict=True):
            tasks = [
                asyncio.create_task(repository.add(bars)),
                asyncio.create_task(repository.bars(BarQuery())),
            ]
            await asyncio.sleep(wait_s)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            seen = await repository.last_seq()
            assert seen in (expected, expected + 10_000)
            expected += 10_000
            assert await repository.add(bars) == expected - seen
        assert await repository.last_seq() == 40_000

    run(postgres_or_sqlite(), work)


ADDER = """
import asyncio, sys
from storekit import bar, table
from marketpipe.store import BarRepository

async def main(url):
    async with await BarRepository.open(url) as repository:
        for start in range(0, 20_000, 50):
            await repository.add(table([bar(m) for m in range(start, start + 50)]))
            print(start + 50, flush=True)

asyncio.run(main(sys.argv[1]))
"""


def test_store_writer_killed_loses_nothing_acknowledged_and_doubles_nothing(
    postgres_or_sqlite: NewUrl,
) -> None:
    url = postgres_or_sqlite()
    rows = [bar(m) for m in range(1500)]

    async def check(repository: BarRepository) -> int:
        outbox = await repository.outbox(0, 100_000)
        assert outbox["seq"].to_pylist() == list(range(1, len(outbox) + 1))
        found = rows_of(outbox)[:1500]
        assert found == rows[: len(found)]
        assert len(outbox) % 50 == 0  # an add is there as a whole or not at all
        return len(outbox)

    for acknowledged in (1, 4, 9):
        with subprocess.Popen(
            [sys.executable, "-c", ADDER, url],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        ) as child:
            assert child.stdout is not None
            said = [int(child.stdout.readline()) for _ in range(acknowledged)]
            child.kill()
        assert run(url, check) >= said[-1]
