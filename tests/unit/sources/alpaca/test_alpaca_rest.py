"""`AlpacaRest` against a real server: every page once, as it was asked for."""

import json
from typing import Any

import numpy as np
import pytest

from marketpipe.errors import (
    UsageError,
)
from marketpipe.sources.alpaca import rest as rest_module
from marketpipe.sources.alpaca.pages import PageKind
from marketpipe.sources.alpaca.rest import AlpacaRest, Page, historical_ticks
from restkit import (
    DATA,
    EVERYTHING,
    KEY,
    SECRET,
    START,
    FakeAlpaca,
    Reply,
    Used,
    all_pages,
    ids,
    trade,
)

# -- pages -----------------------------------------------------------------------------------------


def test_pages_follow_tokens_over_all_symbols_to_the_end() -> None:
    used = Used(FakeAlpaca(DATA))
    pages = used.run(all_pages)
    assert ids(pages) == EVERYTHING
    assert [len(ids([page])) for page in pages] == [3, 3, 3, 2]
    assert [page.next_page_token is None for page in pages] == [False, False, False, True]
    assert {page.received_ns for page in pages} == {used.clock.now}


def test_request_names_everything_it_wants_and_carries_the_keys_in_headers() -> None:
    used = Used(FakeAlpaca(DATA))
    [page] = used.run(lambda client: all_pages(client, limit=10_000))
    [asked] = used.fake.asked
    assert asked.path == "/v2/stocks/trades"
    assert asked.params == {
        "symbols": "AAPL,B,MSFT",
        "start": "2022-10-21T20:19:03Z",
        "end": "2022-10-21T20:19:04Z",
        "limit": "10000",
        "sort": "asc",
        "feed": "sip",
        "asof": "-",
    }
    assert asked.headers["apca-api-key-id"] == KEY
    assert asked.headers["apca-api-secret-key"] == SECRET
    assert KEY not in page.url
    assert page.url.startswith(used.fake.url + "/v2/stocks/trades?")


def test_crypto_needs_no_keys_and_sends_none() -> None:
    used = Used(FakeAlpaca({"BTC/USD": [trade(1)]}))
    pages = used.run(
        lambda client: all_pages(client, symbols=["BTC/USD"], crypto=True, feed=None), key=None
    )
    assert ids(pages) == [("BTC/USD", 1)]
    [asked] = used.fake.asked
    assert asked.path == "/v1beta3/crypto/us/trades"
    assert asked.params["symbols"] == "BTC/USD"
    assert "asof" not in asked.params
    assert "apca-api-key-id" not in asked.headers


def test_bars_name_their_timeframe_and_are_not_adjusted() -> None:
    used = Used(FakeAlpaca({}))

    async def use(client: AlpacaRest) -> list[Page]:
        return [page async for page in client.pages("bars", ["A"], START, START, feed="iex")]

    [page] = used.run(use)
    assert json.loads(page.body) == {"bars": {}, "next_page_token": None}
    params = used.fake.asked[0].params
    assert (params["timeframe"], params["adjustment"]) == ("1Min", "raw")


def test_feed_of_delayed_sip_is_sip_in_history() -> None:
    used = Used(FakeAlpaca(DATA))
    used.run(lambda client: all_pages(client, feed="delayed_sip"))
    assert {asked.params["feed"] for asked in used.fake.asked} == {"sip"}


def test_start_and_end_are_both_inclusive() -> None:
    used = Used(FakeAlpaca(DATA))

    async def use(client: AlpacaRest) -> list[Page]:
        pages = client.pages("trades", ["AAPL"], START + 2, START + 4, feed="sip")
        return [page async for page in pages]

    assert ids(used.run(use)) == [("AAPL", 2), ("AAPL", 3), ("AAPL", 4)]


def test_empty_page_with_a_token_goes_on() -> None:
    empty = Reply(body=b'{"trades":{},"next_page_token":"Mw=="}')
    pages = Used(FakeAlpaca(DATA, empty)).run(all_pages)
    assert ids(pages[:1]) == []
    assert ids(pages) == EVERYTHING[3:]


def test_many_symbols_are_asked_for_in_several_requests() -> None:
    names = [f"S{k:04d}" for k in range(rest_module.SYMBOLS_PER_REQUEST + 1)]
    used = Used(FakeAlpaca({name: [trade(k)] for k, name in enumerate(names)}))
    pages = used.run(lambda client: all_pages(client, symbols=names, limit=10_000))
    assert ids(pages) == [(name, k) for k, name in enumerate(names)]
    assert len(used.fake.asked) == 2


@pytest.mark.parametrize(
    "more",
    [
        {"symbols": []},
        {"symbols": ["A,B"]},
        {"feed": None},
        {"limit": 0},
        {"limit": 10_001},
        {"crypto": True, "loc": "../v2"},
    ],
)
def test_what_makes_no_sense_is_not_asked(more: dict[str, Any]) -> None:
    used = Used(FakeAlpaca(DATA))
    with pytest.raises(UsageError, match="Alpaca history"):
        used.run(lambda client: all_pages(client, **more))
    assert not used.fake.asked


# -- what is latest, and ticks ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["trades", "quotes", "bars"])
def test_latest_are_times_by_symbol(kind: PageKind) -> None:
    body = json.dumps({kind: {"AAPL": trade(5), "MSFT": None, "B": {"t": "x"}}}).encode()
    used = Used(FakeAlpaca({}, Reply(body=body)))
    found = used.run(lambda client: client.latest(kind, ["AAPL", "MSFT", "B"], feed="iex"))
    assert found == {"AAPL": START + 5}
    [asked] = used.fake.asked
    assert asked.path == f"/v2/stocks/{kind}/latest"
    assert asked.params == {"symbols": "AAPL,B,MSFT", "feed": "iex"}


def test_latest_of_crypto_are_asked_for_by_venue() -> None:
    used = Used(FakeAlpaca({}, Reply(body=b'{"trades":{}}')))
    assert used.run(lambda client: client.latest("trades", ["BTC/USD"], crypto=True)) == {}
    assert used.fake.asked[0].path == "/v1beta3/crypto/us/latest/trades"


def test_historical_ticks_are_the_trades_of_all_pages_but_cancelled_ones() -> None:
    given = [trade(0), trade(1, u="canceled"), trade(2, p="x"), trade(3), trade(4)]
    used = Used(FakeAlpaca({"AAPL": given, "MSFT": [trade(9)]}, most=2))

    async def use(client: AlpacaRest) -> list[Any]:
        ticks = historical_ticks(client, "AAPL", START, START + 4, "iex")
        return [batch async for batch in ticks]

    batches = used.run(use)
    assert [batch.ts_event.tolist() for batch in batches] == [[START], [START + 3]]
    assert np.concatenate([batch.row for batch in batches]).tolist() == [0, 3]
    assert batches[0].dictionaries.streams[0] == ("alpaca", "iex", "AAPL")
    assert [(row.row, row.reason) for row in batches[1].bad] == [(2, "bad_number")]
