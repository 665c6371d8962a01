"""How Alpaca's history is asked for: the server's address, the path, the first parameters."""

from collections.abc import Collection

import httpx

from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.errors import UsageError
from marketpipe.sources.alpaca.config import DATA_URL
from marketpipe.sources.alpaca.pages import PageKind


def data_address(url: str) -> str:
    """Return the address of a data API as it is used.

    Raises
    ------
    UsageError
        If it is none.
    """
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL("")
    if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo or parts.query:
        raise UsageError(
            "Alpaca: the address of the data API is none; valid is an address without a user and "
            f"without a query, such as {DATA_URL}"
        )
    return str(parts).rstrip("/")


def checked(symbols: Collection[str]) -> list[str]:
    """Return symbols in order, each once.

    Raises
    ------
    UsageError
        If there is none, or one is malformed.
    """
    wrong = next((symbol for symbol in symbols if not is_valid_symbol(symbol)), None)
    if wrong is not None or not symbols:
        raise UsageError(
            f"Alpaca history: symbols were {wrong!r}; valid are names such as AAPL or BTC/USD"
            if symbols
            else "Alpaca history: no symbols; name at least one"
        )
    return sorted(set(symbols))


def past(feed: str | None) -> str | None:
    """Return the name in history of what a feed streams."""
    return "sip" if feed == "delayed_sip" else feed


def where(
    kind: PageKind, feed: str | None, *, crypto: bool, loc: str, latest: bool = False
) -> tuple[str, dict[str, str]]:
    """Return path and first parameters of a request; arguments as of `AlpacaRest.pages`."""
    if crypto:
        if not is_valid_symbol(loc) or "/" in loc:
            raise UsageError(f"Alpaca history: loc was {loc!r}; valid is a venue such as us")
        return f"/v1beta3/crypto/{loc}/{'latest/' if latest else ''}{kind}", {}
    if feed is None:
        raise UsageError("Alpaca history: no feed; of stocks name one, such as iex or sip")
    return f"/v2/stocks/{kind}{'/latest' if latest else ''}", {"feed": feed}
