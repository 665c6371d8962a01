"""Alpaca's own SDK in a process of its own: its loop, its threads and its warnings stay there.

``python sdkchild.py '{"mode": "stream", …}'`` writes one JSON list per line: of the stream what
the SDK's handlers were given and what it logged, until standard input closes; of the history one
line with the answer.
"""

import json
import logging
import sys
import threading
import warnings
from typing import Any

warnings.simplefilter("ignore")

from alpaca.common.exceptions import APIError  # noqa: E402
from alpaca.data.historical import (  # noqa: E402
    CryptoHistoricalDataClient,
    StockHistoricalDataClient,
)
from alpaca.data.live import CryptoDataStream, StockDataStream  # noqa: E402
from alpaca.data.requests import (  # noqa: E402
    CryptoBarsRequest,
    CryptoLatestOrderbookRequest,
    CryptoQuoteRequest,
    CryptoSnapshotRequest,
    CryptoTradesRequest,
    StockBarsRequest,
    StockLatestTradeRequest,
    StockQuotesRequest,
    StockSnapshotRequest,
    StockTradesRequest,
)
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit  # noqa: E402

TIMEFRAMES = {
    "1Min": TimeFrame.Minute,
    "5Min": TimeFrame(5, TimeFrameUnit.Minute),
    "1Hour": TimeFrame.Hour,
    "1Day": TimeFrame.Day,
    "1Week": TimeFrame.Week,
    "1Month": TimeFrame.Month,
}


def say(*words: Any) -> None:
    print(json.dumps(words, default=str), flush=True)


def fields(item: Any) -> dict[str, Any]:
    """Return a typed message of the SDK as plain data, its time to the microsecond."""
    found = item.model_dump()
    found["timestamp"] = item.timestamp.isoformat(timespec="microseconds")
    return dict(found)


def parts(snapshots: dict[str, Any]) -> dict[str, list[Any]]:
    """Return what a snapshot of each symbol is made of, in the SDK's order."""
    names = ("latest_trade", "latest_quote", "minute_bar", "daily_bar", "previous_daily_bar")
    found = {s: [getattr(one, name) for name in names] for s, one in snapshots.items()}
    return {s: [part for part in listed if part is not None] for s, listed in found.items()}


class Logged(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say("log", record.getMessage())


def stream(given: dict[str, Any]) -> None:
    logging.getLogger("alpaca").addHandler(Logged())
    logging.getLogger("alpaca").setLevel(logging.INFO)
    make = CryptoDataStream if given["kind"] == "crypto" else StockDataStream
    feed = make(given["key"], given["secret"], url_override=given["url"])
    feed._reconnect_min_backoff = 0.05  # a test has no seconds to wait
    feed._reconnect_max_backoff = 0.2

    def handler(name: str) -> Any:
        async def handle(item: Any) -> None:
            say(name, fields(item))

        return handle

    subscribe: dict[str, Any] = {
        "trades": feed.subscribe_trades,
        "quotes": feed.subscribe_quotes,
        "bars": feed.subscribe_bars,
        "updatedBars": feed.subscribe_updated_bars,
        "dailyBars": feed.subscribe_daily_bars,
    }
    if isinstance(feed, CryptoDataStream):
        subscribe["orderbooks"] = feed.subscribe_orderbooks
    else:
        feed.register_trade_corrections(handler("corrections"))
        feed.register_trade_cancels(handler("cancelErrors"))
    for name in given["channels"]:
        subscribe[name](handler(name), *given["symbols"])
    # daemons: what ends this process is its standard input, whatever the SDK is waiting for
    threading.Thread(target=feed.run, daemon=True).start()
    sys.stdin.read()


def history(given: dict[str, Any]) -> None:
    keys = {"api_key": given["key"], "secret_key": given["secret"]} if given["key"] else {}
    ask: dict[str, Any]
    asked = {"symbol_or_symbols": given["symbols"], **given["params"]}
    timeframe = TIMEFRAMES[given.get("timeframe", "1Min")]
    client: Any
    if given["kind"] == "crypto":
        client = CryptoHistoricalDataClient(**keys, url_override=given["url"])
        ask = {
            "trades": lambda: client.get_crypto_trades(CryptoTradesRequest(**asked)).data,
            "quotes": lambda: client.get_crypto_quotes(CryptoQuoteRequest(**asked)).data,
            "bars": lambda: (
                client.get_crypto_bars(CryptoBarsRequest(timeframe=timeframe, **asked)).data
            ),
            "snapshot": lambda: parts(
                client.get_crypto_snapshot(CryptoSnapshotRequest(**asked)),
            ),
            "orderbook": lambda: client.get_crypto_latest_orderbook(
                CryptoLatestOrderbookRequest(**asked)
            ),
        }
    else:
        client = StockHistoricalDataClient(**keys, url_override=given["url"])
        ask = {
            "trades": lambda: client.get_stock_trades(StockTradesRequest(**asked)).data,
            "quotes": lambda: client.get_stock_quotes(StockQuotesRequest(**asked)).data,
            "bars": lambda: (
                client.get_stock_bars(StockBarsRequest(timeframe=timeframe, **asked)).data
            ),
            "snapshot": lambda: parts(
                client.get_stock_snapshot(StockSnapshotRequest(**asked)),
            ),
            "latest": lambda: client.get_stock_latest_trade(StockLatestTradeRequest(**asked)),
        }
    client._retry_wait = 0.2  # a test has no seconds to wait
    try:
        found = ask[given["what"]]()
    except APIError as problem:
        say("error", str(problem))
        return
    listed = {name: rows if isinstance(rows, list) else [rows] for name, rows in found.items()}
    say("data", {name: [fields(row) for row in rows] for name, rows in listed.items()})


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    {"stream": stream, "history": history}[wanted["mode"]](wanted)
