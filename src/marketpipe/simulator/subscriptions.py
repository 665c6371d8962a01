"""What one connection is subscribed to."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from marketpipe.simulator.market import VALID_SYMBOL, Event
from marketpipe.simulator.plans import FOLLOWS_TRADES, UNLISTED, Endpoint, Plan
from marketpipe.sources.framing import Encoding

LINGER: Final = 3
"""So many messages of a channel and symbol still arrive after it was unsubscribed."""

_ALL_CHANNELS: Final = (
    *("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds"),
    *("imbalances", "orderbooks", "news"),
)
_LIMITED: Final = ("trades", "quotes")


class RefusedError(Exception):
    """A request that is answered with an error; its arguments are code and message."""

    def __init__(self, code: int, msg: str) -> None:
        super().__init__(code, msg)
        self.code = code
        self.msg = msg


class Subscriptions:
    """The channels and symbols of one connection; ``*`` stands for all symbols."""

    def __init__(self, endpoint: Endpoint, plan: Plan) -> None:
        self._endpoint: Final = endpoint
        self._plan: Final = plan
        self._sets: dict[str, dict[str, None]] = {name: {} for name in endpoint.channels}
        self._pairs: set[tuple[str, str]] = set()
        self._starred: frozenset[str] = frozenset()
        self._leaving: dict[tuple[str, str], int] = {}

    def change(self, request: Mapping[str, Any], *, add: bool) -> list[tuple[str, str]]:
        """Subscribe or unsubscribe; return the channels and symbols that are new.

        Keys that are no channels are skipped, as are those that come with trades. Nothing is
        changed where the request is refused.

        Raises
        ------
        RefusedError
            400: no channel, or a malformed symbol. 405: more symbols than the plan has. 410: a
            channel that this endpoint does not have.
        """
        asked = {name: self._symbols(request[name]) for name in _ALL_CHANNELS if request.get(name)}
        if not asked and not any(name in request for name in _ALL_CHANNELS):
            raise RefusedError(400, "invalid syntax")
        if any(name not in self._sets for name in asked):
            raise RefusedError(410, "invalid subscribe action for this feed")
        sets = {name: dict(symbols) for name, symbols in self._sets.items()}
        for name, symbols in asked.items():
            for symbol in symbols:
                if add:
                    sets[name][symbol] = None
                else:
                    sets[name].pop(symbol, None)
        if add:
            self._check_limit(sets)
        for name in FOLLOWS_TRADES:
            if name in sets:
                sets[name] = dict(sets["trades"])
        return self._replace(sets)

    def _symbols(self, value: Any) -> list[str]:
        valid = VALID_SYMBOL[self._endpoint.kind].fullmatch
        if not isinstance(value, list) or not all(
            isinstance(one, str) and (one == "*" or valid(one)) for one in value
        ):
            raise RefusedError(400, "invalid syntax")
        return value

    def _check_limit(self, sets: Mapping[str, Mapping[str, None]]) -> None:
        most = self._plan.max_symbols
        counted = {symbol for name in _LIMITED for symbol in sets[name]}
        if most is not None and ("*" in counted or len(counted) > most):
            raise RefusedError(405, "symbol limit exceeded")

    def _replace(self, sets: dict[str, dict[str, None]]) -> list[tuple[str, str]]:
        before = self._pairs
        self._sets = sets
        self._pairs = {(name, one) for name, symbols in sets.items() for one in symbols}
        self._starred = frozenset(name for name, symbols in sets.items() if "*" in symbols)
        gone = before - self._pairs
        self._leaving = {
            pair: left
            for pair, left in {**self._leaving, **dict.fromkeys(gone, LINGER)}.items()
            if pair not in self._pairs
        }
        return [pair for pair in self._pairs if pair not in before]

    def listed(self) -> dict[str, list[str]]:
        """Return all that is subscribed, by channel, as a subscription is confirmed."""
        return {
            name: list(symbols)
            for name, symbols in self._sets.items()
            if symbols or name != UNLISTED
        }

    def wants(self, channel: str, symbol: str) -> bool:
        """Tell whether the connection is subscribed to a symbol's channel."""
        return channel in self._starred or (channel, symbol) in self._pairs

    def encode(self, events: Iterable[Event], encoding: Encoding) -> list[bytes]:
        """Write those of the messages that are subscribed, in their order."""
        pairs, starred = self._pairs, self._starred
        if self._leaving:
            return [event.encode(encoding) for event in events if self._still(event)]
        if starred:
            return [
                event.encode(encoding)
                for event in events
                if event.channel in starred or (event.channel, event.symbol) in pairs
            ]
        return [
            event.encode(encoding) for event in events if (event.channel, event.symbol) in pairs
        ]

    def _still(self, event: Event) -> bool:
        """Tell whether a message is sent while some that were unsubscribed still arrive."""
        if self.wants(event.channel, event.symbol):
            return True
        for pair in ((event.channel, event.symbol), (event.channel, "*")):
            left = self._leaving.get(pair, 0)
            if left:
                self._leaving[pair] = left - 1
                if left == 1:
                    del self._leaving[pair]
                return True
        return False
