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
    CryptoTradesRequest,
    StockBarsRequest,
    StockLatestTradeRequest,
    StockQuotesRequest,
    StockTradesRequest,
)
from alpaca.data.timeframe import TimeFrame  # noqa: E402


def say(*words: Any) -> None:
    print(json.dumps(words, default=str), flush=True)


def fields(item: Any) -> dict[str, Any]:
    """Return a typed message of the SDK as plain data, its time to the microsecond."""
    found = item.model_dump()
    found["timestamp"] = item.timestamp.isoformat(timespec="microseconds")
    return dict(found)


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
    asked = {"symbol_or_symbols": given["symbols"], **given["params"]}
    client: Any
    if given["kind"] == "crypto":
        client = CryptoHistoricalDataClient(**keys, url_override=given["url"])
        ask = {
            "trades": lambda: client.get_crypto_trades(CryptoTradesRequest(**asked)).data,
            "quotes": lambda: client.get_crypto_quotes(CryptoQuoteRequest(**asked)).data,
            "bars": lambda: (
                client.get_crypto_bars(CryptoBarsRequest(timeframe=TimeFrame.Minute, **asked)).data
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
                client.get_stock_bars(StockBarsRequest(timeframe=TimeFrame.Minute, **asked)).data
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
