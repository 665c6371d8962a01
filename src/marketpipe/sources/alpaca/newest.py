"""`NewestAsked`: what Alpaca's REST says the stream must have sent by now."""

import asyncio
from collections.abc import Mapping
from typing import Final

from marketpipe.domain.units import NANOS
from marketpipe.errors import VendorError
from marketpipe.sources.alpaca.config import AlpacaStream
from marketpipe.sources.alpaca.pages import PageKind
from marketpipe.sources.alpaca.rest import AlpacaRest

ORDER_NS: Final = NANOS
"""Quotes that happened so close to one another may come in any order."""
BAR_NS: Final = 60 * NANOS
BAR_AFTER_NS: Final = 30 * NANOS
"""How long after its minute, by the times of trades and quotes, a bar has surely been sent."""

_KINDS: Final[tuple[PageKind, ...]] = ("trades", "quotes", "bars")


class NewestAsked:
    """Asks when the newest trade, quote and minute bar of a stream happened; a `Probe`.

    Of quotes it takes a second off, and a bar counts only if newer trades or quotes say that its
    minute is long over: the history may have a minute that goes on. Channels that the history has
    nothing of (statuses, price bands, order books, bars of days) are absent, and so is one that it
    refuses, or does not answer about.

    Parameters
    ----------
    rest : a client of the history
    stream : which one
    symbols : what is subscribed
    """

    def __init__(self, rest: AlpacaRest, stream: AlpacaStream, symbols: tuple[str, ...]) -> None:
        self._rest, self._stream, self._symbols = rest, stream, symbols
        self._kinds = tuple(kind for kind in _KINDS if kind in stream.usual_channels)

    async def __call__(self) -> Mapping[str, int]:
        """Return when the newest that must have come happened, by channel.

        Raises
        ------
        VendorError
            If none of the channels is told of.
        """
        answers = await asyncio.gather(*map(self._newest, self._kinds), return_exceptions=True)
        found: dict[str, int] = {}
        failures = []
        for kind, answer in zip(self._kinds, answers, strict=True):
            if isinstance(answer, VendorError):
                failures.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found[kind] = answer
        if failures and not found:
            raise failures[0]
        return _surely_sent(found)

    async def _newest(self, kind: PageKind) -> int:
        stream = self._stream
        times = await self._rest.latest(
            kind, self._symbols, feed=stream.feed, crypto=stream.is_crypto, loc=stream.feed
        )
        return max(times.values(), default=0)


def _surely_sent(found: Mapping[str, int]) -> dict[str, int]:
    told = dict(found)
    now_ns = max((found.get(kind, 0) for kind in ("trades", "quotes")), default=0)
    if "quotes" in told:
        told["quotes"] = max(0, told["quotes"] - ORDER_NS)
    if "bars" in told and told["bars"] + BAR_NS + BAR_AFTER_NS > now_ns:
        told["bars"] = 0
    return told
