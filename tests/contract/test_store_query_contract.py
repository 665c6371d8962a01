"""Reads of the store as of any time, against plain Python, in every database."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe.store import (
    BarQuery,
    BarRepository,
)
from storekit import MINUTE, OPEN, NewUrl, Row, bar, rows_of, run, table, void

SERIES = ("source", "feed", "symbol", "price_type", "rule_set", "session", "timeframe")


def oracle(rows: list[Row], query: BarQuery) -> list[Row]:
    """Answer a query over rows in plain Python."""

    def known(row: Row) -> bool:
        if query.as_of is None:
            return True
        strict = query.knowledge == "strict" and row["recorded_at"] is not None
        return bool((row["recorded_at"] if strict else row["known_at"]) <= query.as_of)

    chosen: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        identity = tuple(row[name] for name in (*SERIES, "ts_open"))
        key = (*identity, row["revision"]) if query.history else identity
        if known(row) and (key not in chosen or chosen[key]["revision"] < row["revision"]):
            chosen[key] = row
    found = [
        row
        for row in chosen.values()
        if (query.symbols is None or row["symbol"] in query.symbols)
        and (query.feed is None or row["feed"] == query.feed)
        and (query.start is None or row["ts_open"] >= query.start)
        and (query.end is None or row["ts_open"] < query.end)
        and (query.history or query.voids or row["coverage"] != "void")
    ]
    sign = -1 if query.newest_first else 1
    found.sort(key=lambda r: (sign * r["ts_open"], r["symbol"], r["feed"], r["revision"]))
    return found[: query.limit]


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    """Draw bars of three series with dense revisions, some void, known in any order."""
    rows = []
    for symbol, feed in (("A", "iex"), ("a", "iex"), ("A", "sip")):
        for minute in draw(st.sets(st.integers(0, 6), max_size=5)):
            for revision in range(draw(st.integers(1, 4))):
                make = void if revision and draw(st.booleans()) else bar
                known = OPEN + draw(st.integers(0, 20)) * MINUTE // 2
                recorded = draw(st.one_of(st.none(), st.integers(0, 20)))
                recorded_at = None if recorded is None else OPEN + recorded * MINUTE // 2
                times = {"known_at": known, "recorded_at": recorded_at}
                rows.append(make(minute, revision, symbol=symbol, feed=feed, **times))
    return draw(st.permutations(rows))


QUERIES = st.builds(
    BarQuery,
    symbols=st.sampled_from([None, ("A",), ("a",), ("A", "a"), ("A", "NONE")]),
    feed=st.sampled_from([None, "iex", "sip"]),
    start=st.one_of(st.none(), st.just(OPEN + MINUTE)),
    end=st.one_of(st.none(), st.just(OPEN + 4 * MINUTE), st.just(OPEN + 4 * MINUTE + 1)),
    as_of=st.one_of(
        st.none(),
        st.tuples(st.integers(-1, 21), st.integers(-1, 1)).map(
            lambda t: OPEN + t[0] * MINUTE // 2 + t[1]
        ),
    ),
    knowledge=st.sampled_from(["assumed", "strict"]),
    history=st.booleans(),
    voids=st.booleans(),
    limit=st.one_of(st.none(), st.integers(1, 8)),
    newest_first=st.booleans(),
)


@settings(max_examples=15)
@given(rows=histories(), queries=st.lists(QUERIES, min_size=5, max_size=20))
def test_store_bars_as_of_and_history_are_what_plain_python_says(
    rows: list[Row], queries: list[BarQuery], postgres_or_sqlite: NewUrl
) -> None:
    async def work(repository: BarRepository) -> None:
        await repository.add(table(rows))
        for query in queries:
            assert rows_of(await repository.bars(query)) == oracle(rows, query), query

    run(postgres_or_sqlite(), work)


@settings(max_examples=15)
@given(rows=histories(), query=QUERIES, n=st.integers(1, 6))
def test_store_latest_is_the_newest_n_of_each_series_in_time_order(
    rows: list[Row], query: BarQuery, n: int, postgres_or_sqlite: NewUrl
) -> None:
    parts = {"history": False, "limit": None, "newest_first": False}
    names = [name for name in BarQuery.__slots__ if name not in parts]
    query = BarQuery(**{name: getattr(query, name) for name in names})
    expected = oracle(rows, query)
    for symbol, feed in (("A", "iex"), ("a", "iex"), ("A", "sip")):
        mine = [r for r in expected if (r["symbol"], r["feed"]) == (symbol, feed)]
        for row in mine[:-n]:
            expected.remove(row)

    async def work(repository: BarRepository) -> None:
        await repository.add(table(rows))
        assert rows_of(await repository.latest(query, n)) == expected

    run(postgres_or_sqlite(), work)


def test_store_latest_returns_the_newest_row_not_the_oldest(new_url: NewUrl) -> None:
    async def work(repository: BarRepository) -> None:
        await repository.add(table([bar(m) for m in (2, 0, 1)] + [bar(3), void(3, 1)]))
        query = BarQuery(symbols=("AAA",), timeframe="1m")
        assert rows_of(await repository.latest(query)) == [bar(2)]
        assert rows_of(await repository.latest(query, 2)) == [bar(1), bar(2)]
        newest = BarQuery(symbols=("AAA",), newest_first=True, limit=2)
        assert rows_of(await repository.bars(newest)) == [bar(2), bar(1)]

    run(new_url(), work)
