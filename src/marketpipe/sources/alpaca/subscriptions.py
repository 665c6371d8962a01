"""What is wanted of a stream, and what the vendor granted last."""

from collections.abc import Iterable, Mapping
from typing import Final

from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.errors import UsageError
from marketpipe.sources.alpaca.protocol import (
    CRYPTO_CHANNELS,
    EXTRA_CHANNELS,
    STOCK_CHANNELS,
    WITH_TRADES,
    Symbols,
)

ALL: Final = "*"


class Subscriptions:
    """Symbols by channel, in the order in which they were asked for.

    Parameters
    ----------
    usual : the channels of a request that names none
    is_crypto : of which kind the stream is
    """

    def __init__(self, usual: Iterable[str], *, is_crypto: bool) -> None:
        self.known = CRYPTO_CHANNELS if is_crypto else (*STOCK_CHANNELS, *EXTRA_CHANNELS)
        self._usual = self._checked(usual)
        self._granted: Symbols = {}
        self.wanted: Symbols = {}

    def asked(
        self, symbols: Iterable[str], channels: Iterable[str] | None, *, whole: bool = False
    ) -> Symbols:
        """Return what a request means; ``whole``: no channels are all that have any symbol.

        Raises
        ------
        UsageError
            If a symbol is malformed or a channel unknown.
        """
        names = tuple(dict.fromkeys(symbols))
        for name in names:
            if name != ALL and not is_valid_symbol(name):
                raise UsageError(
                    f"symbols: was '{name}'; a symbol is like AAPL, BRK.B or BTC/USD, and * is all"
                )
        if channels is not None:
            chosen = self._checked(channels)
        else:
            chosen = tuple(self.wanted) if whole else self._usual
        return dict.fromkeys(chosen, names) if names else {}

    def _checked(self, channels: Iterable[str]) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(channels))
        for channel in chosen:
            if channel in WITH_TRADES:
                raise UsageError(f"channels: was '{channel}', which comes with trades by itself")
            if channel not in self.known:
                raise UsageError(
                    f"channels: was '{channel}'; this stream has {', '.join(self.known)}"
                )
        return chosen

    def add(self, more: Symbols) -> None:
        """Want more."""
        self.wanted = {
            channel: tuple(dict.fromkeys((*self.wanted.get(channel, ()), *more.get(channel, ()))))
            for channel in dict.fromkeys((*self.wanted, *more))
        }

    def remove(self, less: Symbols) -> None:
        """Want less."""
        left = {
            channel: tuple(name for name in names if name not in less.get(channel, ()))
            for channel, names in self.wanted.items()
        }
        self.wanted = {channel: names for channel, names in left.items() if names}

    def settle(self) -> None:
        """Take note that what is wanted was granted."""
        self._granted = self.wanted

    def fall_back(self) -> bool:
        """Want what was granted last; return False if that is nothing, or is wanted already."""
        if not self._granted or self._granted == self.wanted:
            return False
        self.wanted = self._granted
        return True


def missing(wanted: Symbols, echoed: Mapping[str, Iterable[str]]) -> list[str]:
    """Return what is wanted and not in the vendor's echo, as ``channel symbol``."""
    lacking = []
    for channel, names in wanted.items():
        there = frozenset(echoed.get(channel, ()))
        if ALL not in there:
            lacking += [f"{channel} {name}" for name in names if name not in there]
    return lacking
