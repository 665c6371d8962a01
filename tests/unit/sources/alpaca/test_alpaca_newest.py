"""What Alpaca's history says that the stream must have sent by now."""

import json
from collections.abc import Mapping

import pytest
from pydantic import SecretStr

from marketpipe.domain.units import format_ns
from marketpipe.errors import ConnectError, EntitlementError
from marketpipe.sources.alpaca.config import AlpacaStream
from marketpipe.sources.alpaca.newest import NewestAsked
from restkit import KEY, SECRET, Asked, FakeAlpaca, Reply, Used

SECOND = 1_000_000_000
NOON = 1_767_632_400 * SECOND
REFUSED = Reply(status=403, body=b'{"code":42210000,"message":"subscription does not permit"}')


class Latest(FakeAlpaca):
    """Answers with the latest of each kind, in seconds after noon by symbol; None: refused."""

    def __init__(self, seconds: Mapping[str, Mapping[str, float] | None]) -> None:
        super().__init__({})
        self.seconds = seconds

    def answer(self, asked: Asked) -> Reply:
        kind = next(part for part in asked.path.split("/") if part in self.seconds)
        found = self.seconds[kind]
        if found is None:
            return REFUSED
        times = {name: {"t": format_ns(NOON + int(at * SECOND))} for name, at in found.items()}
        return Reply(body=json.dumps({kind: times}).encode())


def told(
    fake: FakeAlpaca, path: str = "v2/iex", channels: tuple[str, ...] | None = None
) -> Mapping[str, float]:
    """Ask, and return what is told in seconds after noon."""
    stream = AlpacaStream(
        path=path, key=SecretStr(KEY), secret=SecretStr(SECRET), channels=channels
    )
    symbols = ("BTC/USD",) if stream.is_crypto else ("AAPL", "MSFT")
    found = Used(fake).run(lambda client: NewestAsked(client, stream, symbols)())
    return {kind: (ts_ns - NOON) / SECOND if ts_ns else 0 for kind, ts_ns in found.items()}


@pytest.mark.parametrize(
    ("latest", "expected"),
    [
        # The newest of all symbols; of quotes a second less, as their order is not that of time.
        (
            {"trades": {"AAPL": 300, "MSFT": 310.5}, "quotes": {"AAPL": 312}, "bars": {"AAPL": 60}},
            {"trades": 310.5, "quotes": 311, "bars": 60},
        ),
        # A bar counts once trades or quotes say that its minute is over for half a minute.
        (
            {"trades": {"AAPL": 300}, "quotes": {"AAPL": 329.9}, "bars": {"AAPL": 240}},
            {"trades": 300, "quotes": 328.9, "bars": 0},
        ),
        (
            {"trades": {"AAPL": 300}, "quotes": {"AAPL": 330}, "bars": {"AAPL": 240}},
            {"trades": 300, "quotes": 329, "bars": 240},
        ),
        # Nothing was traded yet.
        ({"trades": {}, "quotes": {}, "bars": {}}, {"trades": 0, "quotes": 0, "bars": 0}),
        # What the plan does not have there is not told; the rest is.
        ({"trades": {"AAPL": 300}, "quotes": None, "bars": {}}, {"trades": 300, "bars": 0}),
    ],
)
def test_newest_is_what_must_have_come(
    latest: Mapping[str, Mapping[str, float] | None], expected: Mapping[str, float]
) -> None:
    assert told(Latest(latest)) == expected


def test_newest_is_asked_of_what_the_stream_subscribes() -> None:
    fake = Latest({"trades": {"AAPL": 5}})
    assert told(fake, channels=("trades", "statuses")) == {"trades": 5}
    assert [(asked.path, asked.params["feed"]) for asked in fake.asked] == [
        ("/v2/stocks/trades/latest", "iex")
    ]


def test_newest_of_crypto_is_asked_of_its_venue() -> None:
    fake = Latest({"trades": {"BTC/USD": 5}, "quotes": {"BTC/USD": 9}, "bars": {"BTC/USD": -120}})
    assert told(fake, "v1beta3/crypto/us") == {"trades": 5, "quotes": 8, "bars": -120}
    assert sorted(asked.path for asked in fake.asked) == [
        f"/v1beta3/crypto/us/latest/{kind}" for kind in ("bars", "quotes", "trades")
    ]


def test_newest_that_is_refused_altogether_is_an_error() -> None:
    with pytest.raises(EntitlementError):
        told(Latest({"trades": None, "quotes": None, "bars": None}))


def test_newest_that_nobody_answers_is_an_error() -> None:
    with pytest.raises(ConnectError, match="cannot answer now"):
        told(FakeAlpaca({}, *(Reply(status=500, body=b"") for _ in range(60))))
