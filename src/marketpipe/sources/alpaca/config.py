"""Which of Alpaca's streams is taken, and how to get in."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from marketpipe.domain.units import NANOS
from marketpipe.errors import UsageError
from marketpipe.sources.alpaca.protocol import CRYPTO_CHANNELS, STOCK_CHANNELS
from marketpipe.sources.framing import Encoding

STREAM_URL: Final = "wss://stream.data.alpaca.markets"
DATA_URL: Final = "https://data.alpaca.markets"
_DELAYS_NS: Final = {"v2/delayed_sip": 15 * 60 * NANOS}

_PATH: Final = re.compile(
    r"v2/(iex|sip|delayed_sip|test)|v1beta1/(boats|overnight)|v1beta3/crypto/[a-z]{2}(-[0-9])?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpacaStream:
    """One stream of Alpaca's.

    Attributes
    ----------
    path : ``v2/iex``, ``v2/sip``, ``v2/delayed_sip``, ``v2/test``, ``v1beta1/boats``,
        ``v1beta1/overnight`` or ``v1beta3/crypto/us`` (or another place than ``us``)
    key, secret : of Alpaca's dashboard
    url, rest_url : of the servers, without a path
    encoding : ``msgpack`` is shorter; both carry full nanoseconds
    channels : what is subscribed when a request names none; None: all of the kind
    compress : whether to ask for compression; it saves traffic and costs CPU

    Raises
    ------
    UsageError
        If the path is unknown, a key is missing, or an address is none.
    """

    path: str
    key: SecretStr
    secret: SecretStr
    url: str = STREAM_URL
    rest_url: str = DATA_URL
    encoding: Encoding = "msgpack"
    channels: tuple[str, ...] | None = None
    compress: bool = False

    def __post_init__(self) -> None:
        stream_address(self.url, self.path)
        if not (self.key.get_secret_value() and self.secret.get_secret_value()):
            raise UsageError(
                "alpaca: the key or the secret is empty. Set ALPACA_API_KEY and "
                "ALPACA_SECRET_KEY, or put them into keys.env"
            )

    @property
    def address(self) -> str:
        """Where it is connected to."""
        return stream_address(self.url, self.path)

    @property
    def is_crypto(self) -> bool:
        """Whether this is a crypto stream."""
        return "crypto" in self.path

    @property
    def feed(self) -> str:
        """The feed's name in records: the last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def delay_ns(self) -> int:
        """How much later than it happens the feed tells."""
        return _DELAYS_NS.get(self.path, 0)

    @property
    def usual_channels(self) -> tuple[str, ...]:
        """What is subscribed when a request names no channel."""
        if self.channels is not None:
            return self.channels
        return CRYPTO_CHANNELS if self.is_crypto else STOCK_CHANNELS


def stream_address(url: str, path: str) -> str:
    """Return the address of a stream on a server.

    Raises
    ------
    UsageError
        If the path is unknown, or the server's address is none.
    """
    if not _PATH.fullmatch(path):
        raise UsageError(
            f"alpaca: path was '{path}'; v2/iex, v2/sip, v2/delayed_sip, v2/test and "
            "v1beta3/crypto/us are streams"
        )
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or "@" in parts.netloc:
        raise UsageError(
            "alpaca: url must be like wss://host or ws://127.0.0.1:8765, without a user"
        )
    return f"{url.rstrip('/')}/{path}"
