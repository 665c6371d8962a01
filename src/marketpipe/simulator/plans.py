"""Who may see what: keys, data plans, and the endpoints of the stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from marketpipe.domain.units import NANOS
from marketpipe.simulator.market import Kind

Feed = Literal["sip", "iex", "delayed_sip", "test", "crypto"]

DELAY_NS: Final = 15 * 60 * NANOS
"""How far ``delayed_sip`` is behind, and what of the SIP a basic plan may not see."""

CRYPTO_LOCATIONS: Final = ("us", "us-1", "us-2", "eu-1", "bs-1")
_STOCKS: Final = (
    *("trades", "quotes", "bars", "updatedBars", "dailyBars"),
    *("statuses", "lulds", "corrections", "cancelErrors", "imbalances"),
)
_CRYPTO: Final = ("trades", "quotes", "orderbooks", "bars", "updatedBars", "dailyBars")
UNLISTED: Final = "imbalances"
"""Confirmed only where it is subscribed."""
FOLLOWS_TRADES: Final = ("corrections", "cancelErrors")
"""Channels that come with trades, and cannot be asked for."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One path of the stream.

    Attributes
    ----------
    path : without a slash in front, such as ``v2/iex``
    kind : whose symbols it takes
    feed : which data it has
    delay_ns : how much later than the market's own time it sends
    """

    path: str
    kind: Kind
    feed: Feed
    delay_ns: int = 0

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels it has, in the order in which subscriptions are confirmed."""
        return _CRYPTO if self.kind == "crypto" else _STOCKS


ENDPOINTS: Final = {
    endpoint.path: endpoint
    for endpoint in (
        Endpoint(path="v2/sip", kind="stocks", feed="sip"),
        Endpoint(path="v2/iex", kind="stocks", feed="iex"),
        Endpoint(path="v2/delayed_sip", kind="stocks", feed="delayed_sip", delay_ns=DELAY_NS),
        Endpoint(path="v2/test", kind="stocks", feed="test"),
        *(
            Endpoint(path=f"v1beta3/crypto/{where}", kind="crypto", feed="crypto")
            for where in CRYPTO_LOCATIONS
        ),
    )
}
"""The endpoints by path."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an account may do; as it stands, Algo Trader Plus.

    Attributes
    ----------
    sip : whether it may see the SIP in real time
    max_symbols : how many symbols of trades and quotes it may subscribe to; None: any number
    connections : how many connections it may hold on each endpoint
    requests_per_minute : how often it may ask REST, in a minute of real time
    """

    sip: bool = True
    max_symbols: int | None = None
    connections: int = 1
    requests_per_minute: int = 10_000

    @classmethod
    def basic(cls) -> "Plan":
        """Return the free plan."""
        return cls(sip=False, max_symbols=30, requests_per_minute=200)

    def allows(self, endpoint: Endpoint) -> bool:
        """Tell whether the account may connect to an endpoint."""
        return self.sip or endpoint.feed != "sip"


class Keys:
    """The keys that are let in.

    Parameters
    ----------
    secrets : the secret of each key. A secret is also taken as the token of an
        ``Authorization: Bearer`` header, and of the key ``oauth``.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets: Final = dict(secrets)

    def account(self, key: str, secret: str) -> str | None:
        """Return the account of a key and its secret, None if they are wrong."""
        if key == "oauth":
            return self._of_token(secret)
        return key if key and self._secrets.get(key) == secret else None

    def of_headers(self, headers: Mapping[str, str]) -> tuple[str | None, bool]:
        """Return the account that a request's headers name, and whether they name any."""
        bearer = headers.get("Authorization", "")
        if bearer.startswith("Bearer "):
            return self._of_token(bearer.removeprefix("Bearer ")), True
        key = headers.get("APCA-API-KEY-ID")
        if key is None:
            return None, False
        secret = headers.get("APCA-API-SECRET-KEY") or headers.get("APCA-API-SECRET") or ""
        return self.account(key, secret), True

    def _of_token(self, token: str) -> str | None:
        return next((key for key, secret in self._secrets.items() if secret == token), None)
