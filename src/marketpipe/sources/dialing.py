"""Opening a WebSocket to a vendor, and what went wrong in words that help."""

import logging
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Final, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import (
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    ProxyError,
)

from marketpipe.errors import ConnectError, RateLimitError, UnreachableError
from marketpipe.sources.bounded import QUEUED_FRAMES, BoundedConnection

ANSWER_SECONDS: Final = 10.0
"""Real seconds that a vendor has for an answer."""
MAX_FRAME_BYTES: Final = 1 << 24

_CLOSE_SECONDS: Final = 1.0
_PING_SECONDS: Final = 20.0
_PONG_SECONDS: Final = 30.0
_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))
_TITLE: Final = re.compile(rb"<title[^>]*>([^<]{1,80})", re.IGNORECASE)

# At debug level `websockets` logs every frame, and with them the keys that are sent.
_quiet = logging.getLogger("marketpipe.websocket")
_quiet.setLevel(logging.WARNING)


class _Dial(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        # Never followed: the keys are sent to whom we end up with.
        return exc


async def dial(
    url: str, headers: Mapping[str, str], *, agent: str, compress: bool = False
) -> BoundedConnection:
    """Open a WebSocket at ``url``; a proxy of the environment is used, but not for loopback.

    Raises
    ------
    UnreachableError
        If nothing answers; waiting may mend it.
    RateLimitError
        If the answer is 429.
    ConnectError
        If what answers is no WebSocket, or cannot be trusted.
    """
    try:
        opened = await _Dial(
            url,
            additional_headers=headers,
            user_agent_header=agent,
            compression="deflate" if compress else None,
            proxy=None if urlsplit(url).hostname in _LOOPBACK else True,
            open_timeout=ANSWER_SECONDS,
            ping_interval=_PING_SECONDS,
            ping_timeout=_PONG_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            max_size=MAX_FRAME_BYTES,
            max_queue=QUEUED_FRAMES,
            create_connection=BoundedConnection,
            logger=_quiet,
        )
    except (OSError, InvalidHandshake, InvalidProxy, ImportError) as error:
        raise explained(url, error) from error
    return cast("BoundedConnection", opened)


def explained(url: str, error: Exception) -> ConnectError | RateLimitError:
    """Say why a WebSocket could not be opened, and what to do about it."""
    host = urlsplit(url).hostname
    if isinstance(error, InvalidStatus):
        return _refused(url, error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectError(
            f"{url}: the certificate of {host} is not trusted: {error.verify_message}. Does a "
            "proxy open TLS here? Let SSL_CERT_FILE name its certificate; else check the clock "
            "of this machine"
        )
    if isinstance(error, ssl.SSLError):
        return ConnectError(
            f"{url}: {host} does not answer in TLS ({error.reason or error}). Is it a ws:// "
            "address, or does a proxy interfere?"
        )
    if isinstance(error, socket.gaierror):
        return UnreachableError(
            f"{url}: the name {host} cannot be resolved ({error.strerror}). Is there a network, "
            "and is the name right?"
        )
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(f"{url}: nothing listens there. Is the address right?")
    if isinstance(error, TimeoutError):
        return UnreachableError(
            f"{url}: no answer in {ANSWER_SECONDS:g} s. Is there a network, or a firewall between?"
        )
    if isinstance(error, ConnectionError):
        return UnreachableError(
            f"{url}: {host} hung up before it answered. Is it there, and are ws:// and wss:// not "
            "mixed up?"
        )
    if isinstance(error, OSError):
        said = error.strerror or str(error) or type(error).__name__
        return UnreachableError(f"{url}: cannot be reached: {said}")
    if isinstance(error, InvalidMessage) and isinstance(error.__cause__, EOFError):
        return UnreachableError(f"{url}: {host} hung up before it answered")
    if isinstance(error, (ProxyError, InvalidProxy, ImportError)):
        return _proxy(url, error)
    return ConnectError(f"{url}: what answers is no WebSocket: {error}. Is the address right?")


def _refused(url: str, error: InvalidStatus) -> ConnectError | RateLimitError:
    status, body = error.response.status_code, error.response.body or b""
    if status == 429:
        return RateLimitError(f"{url}: too many attempts (429)")
    is_page = b"<html" in body[:2000].lower()
    title = _TITLE.search(body) if is_page else None
    about = f" titled '{title[1].decode(errors='replace').strip()}'" if title else ""
    if status >= 500:
        page = f", and a web page{about} answers: it may be a proxy's" if is_page else ""
        return UnreachableError(f"{url}: the server is in trouble ({status}){page}")
    if is_page:
        return ConnectError(
            f"{url}: a web page{about} answered ({status}), not the feed. That is a proxy or a "
            "log-in page: open it in a browser, or let this machine reach the address directly"
        )
    return ConnectError(
        f"{url}: the server answered {status} and opened no WebSocket. Is the path right?"
    )


def _proxy(url: str, error: Exception) -> ConnectError:
    said = f": {error.response.status_code}" if isinstance(error, InvalidProxyStatus) else ""
    return ConnectError(
        f"{url}: the proxy of this machine does not let it through{said} "
        f"({type(error).__name__}). Mend https_proxy, or name the host in no_proxy"
    )
