"""History over HTTP: pages of trades, quotes and bars, the latest of each, and snapshots."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import Raw

from marketpipe.domain.units import DAY_NS, MAX_TS_NS, NANOS
from marketpipe.simulator.amend import Amended
from marketpipe.simulator.clock import SimClock, unix_seconds
from marketpipe.simulator.faults import Schedule
from marketpipe.simulator.market import Kind, Row
from marketpipe.simulator.plans import CRYPTO_LOCATIONS, DELAY_NS, Keys, Plan
from marketpipe.simulator.query import (
    EMPTY_FEEDS,
    BadRequestError,
    Place,
    Query,
    read_feed,
    read_query,
    read_symbols,
    read_timeframe,
)
from marketpipe.simulator.rollup import Timeframe, rolled

NO_RECENT_SIP: Final = (42210000, "subscription does not permit querying recent SIP data")
PROXY_PAGE: Final = (
    b"<html><head><title>502 Bad Gateway</title></head>"
    b"<body><center><h1>502 Bad Gateway</h1></center></body></html>\n"
)
_KINDS: Final = ("trades", "quotes", "bars")
_MINUTE: Final = Timeframe(1, "Min")
_DAY: Final = Timeframe(1, "Day")
_DAYS_BACK_NS: Final = 10 * DAY_NS
"""How far back a snapshot looks for its two days."""
_LOOK_BACK_NS: Final = (300 * NANOS, 3_600 * NANOS, MAX_TS_NS)
_json = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """An answer to a request."""

    status: int
    body: bytes
    content_type: str = "application/json; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, message: str, code: int | None = None) -> None:
        super().__init__(status, message, code)
        self.answer = Answer(
            status,
            _json({"message": message} if code is None else {"code": code, "message": message}),
        )


class _Route(NamedTuple):
    """What a path asks for; bars have a timeframe."""

    kind: Kind
    what: str
    form: Literal["range", "latest", "snapshots"] = "range"
    timeframe: Timeframe = _MINUTE


def _route(path: str) -> _Route | None:
    match path.strip("/").split("/"):
        case ["v2", "stocks", what] if what in _KINDS:
            return _Route("stocks", what)
        case ["v2", "stocks", what, "latest"] if what in _KINDS:
            return _Route("stocks", what, "latest")
        case ["v2", "stocks", "snapshots"]:
            return _Route("stocks", "snapshots", "snapshots")
        case ["v1beta3", "crypto", where, what] if what in _KINDS and where in CRYPTO_LOCATIONS:
            return _Route("crypto", what)
        case ["v1beta3", "crypto", where, "snapshots"] if where in CRYPTO_LOCATIONS:
            return _Route("crypto", "snapshots", "snapshots")
        case ["v1beta3", "crypto", where, "latest", what] if where in CRYPTO_LOCATIONS:
            return _Route("crypto", what, "latest") if what in {*_KINDS, "orderbooks"} else None
    return None


class _Allowance:
    """Requests of an account in a minute of real time."""

    def __init__(self, most: int) -> None:
        self.most: Final = most
        self._minute = 0
        self._used: dict[str, int] = {}

    def use(self, account: str, real_seconds: float) -> tuple[int, int]:
        """Count a request; return how many are left (below 0: refused) and when it begins anew."""
        minute = int(real_seconds // 60)
        if minute != self._minute:
            self._minute, self._used = minute, {}
        self._used[account] = self._used.get(account, 0) + 1
        return self.most - self._used[account], (minute + 1) * 60


class Rest:
    """Answers requests for history.

    Parameters
    ----------
    markets : what there is of each kind
    keys, plan : who may ask, and for what
    clock, schedule : what time it is, and what goes wrong
    real_seconds : real time, which the limits of requests go by
    """

    def __init__(
        self,
        markets: Mapping[Kind, Amended],
        keys: Keys,
        plan: Plan,
        clock: SimClock,
        schedule: Schedule,
        real_seconds: Callable[[], float] = unix_seconds,
    ) -> None:
        self._markets: Final = markets
        self._keys: Final = keys
        self._plan: Final = plan
        self._clock: Final = clock
        self._schedule: Final = schedule
        self._real_seconds: Final = real_seconds
        self._allowance: Final = _Allowance(plan.requests_per_minute)
        # a page costs no more than its rows, as long as the view that it is cut from is at hand
        self._rows: Final = lru_cache(maxsize=8)(self._view)

    def answer(self, target: str, headers: Mapping[str, str]) -> Answer:
        """Answer a GET request.

        Parameters
        ----------
        target : path and query
        headers : of the request
        """
        now = self._clock.now_ns()
        if self._schedule.window("html", now) is not None:
            return Answer(HTTPStatus.BAD_GATEWAY, PROXY_PAGE, "text/html")
        account, named = self._keys.of_headers(headers)
        limits, refused = self._limits(account or "", now)
        try:
            answer = (
                _RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "too many requests.").answer
                if refused
                else self._answer(target, account, named, now)
            )
        except BadRequestError as problem:
            answer = _RefusedError(HTTPStatus.BAD_REQUEST, str(problem)).answer
        except _RefusedError as problem:
            answer = problem.answer
        return answer._replace(headers=limits)

    def _limits(self, account: str, now_ns: int) -> tuple[tuple[tuple[str, str], ...], bool]:
        """Count a request; return the headers that say what is left, and whether it is refused."""
        real = self._real_seconds()
        left, reset = self._allowance.use(account, real)
        refusal = self._schedule.window("too_many", now_ns)
        if refusal is not None:
            left = -1
            reset = math.ceil(real + self._clock.real_seconds(refusal.end_ns))
        headers = {"Limit": self._allowance.most, "Remaining": max(left, 0), "Reset": reset}
        return tuple((f"X-RateLimit-{key}", str(value)) for key, value in headers.items()), left < 0

    def _answer(self, target: str, account: str | None, named: bool, now_ns: int) -> Answer:
        parts = urlsplit(target)
        route = _route(parts.path)
        if route is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "endpoint not found.")
        # crypto is open to all, but a wrong key is wrong there too
        if account is None and (named or route.kind == "stocks"):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "forbidden.")
        refusals = ("refuse_rest", "refuse_quotes") if route.what == "quotes" else ("refuse_rest",)
        if any(self._schedule.window(kind, now_ns) is not None for kind in refusals):
            raise _RefusedError(HTTPStatus.FORBIDDEN, NO_RECENT_SIP[1], NO_RECENT_SIP[0])
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        if route.form != "range":
            return self._newest(route, given, now_ns)
        if route.what == "bars":
            route = route._replace(timeframe=read_timeframe(given))
        return self._page(route, read_query(given, route.kind, now_ns), now_ns)

    # ranges

    def _page(self, route: _Route, query: Query, now_ns: int) -> Answer:
        newest_ns = self._permitted(route, query, now_ns)
        end_ns = newest_ns if query.end_ns is None else query.end_ns
        place = query.place
        if place is None:
            known_ns = now_ns - DELAY_NS if query.feed == "delayed_sip" else now_ns
            place = Place(query.symbols[0], 0, known_ns)
        if place.symbol not in query.symbols:
            raise BadRequestError("invalid page_token")
        known_ns = place.known_ns
        if route.timeframe != _MINUTE:
            # a bar that has begun shows no more than the plan permits
            known_ns = min(known_ns, newest_ns)
        shown: list[tuple[str, Sequence[Row]]] = []
        left, index, after = query.limit, place.index, None
        for symbol in query.symbols[query.symbols.index(place.symbol) :]:
            rows = (
                ()
                if query.feed in EMPTY_FEEDS
                else self._rows(route, symbol, query.start_ns, end_ns, known_ns)
            )
            count = len(rows)
            if count > index and not left:
                after = Place(symbol, index, place.known_ns)
                break
            taken = _cut(rows, index, left, query.descending)
            left -= len(taken)
            if taken:
                shown.append((symbol, taken))
            if index + len(taken) < count:
                after = Place(symbol, index + len(taken), place.known_ns)
                break
            index = 0
        token = after.token() if after is not None else None
        if query.place is not None and self._schedule.window("page_loop", now_ns) is not None:
            token = query.place.token()
        return Answer(HTTPStatus.OK, _page_body(route.what, shown, token))

    def _permitted(self, route: _Route, query: Query, now_ns: int) -> int:
        """Return the newest instant that the plan permits; the range may not end after it."""
        newest = now_ns
        if route.kind == "stocks" and not self._plan.sip and query.feed in {None, "sip"}:
            newest = now_ns - DELAY_NS
            if query.end_ns is not None and query.end_ns > newest:
                raise _RefusedError(HTTPStatus.FORBIDDEN, NO_RECENT_SIP[1], NO_RECENT_SIP[0])
        return newest

    def _view(
        self, route: _Route, symbol: str, start_ns: int, end_ns: int, known_ns: int
    ) -> Sequence[Row]:
        market = self._markets.get(route.kind)
        if market is None:
            return ()
        if route.what == "bars":
            asked = (route.kind, route.timeframe, symbol, start_ns, end_ns, known_ns)
            return rolled(market.bars, market.days, *asked)
        view = market.trades if route.what == "trades" else market.quotes
        return view(symbol, start_ns, end_ns, known_ns)

    # the latest

    def _newest(self, route: _Route, given: Mapping[str, str], now_ns: int) -> Answer:
        feed = read_feed(given, route.kind)
        if route.kind == "stocks" and feed == "sip" and not self._plan.sip:
            raise _RefusedError(HTTPStatus.FORBIDDEN, NO_RECENT_SIP[1], NO_RECENT_SIP[0])
        known_ns = now_ns - DELAY_NS if feed == "delayed_sip" else now_ns
        symbols = read_symbols(given)
        views = {"orderbooks": self._book, "snapshots": self._snapshot}
        view = views.get(route.what, self._last)
        told = {} if feed in EMPTY_FEEDS else {s: view(route, s, known_ns) for s in symbols}
        found = {symbol: one for symbol, one in told.items() if one}
        is_bare = route.form == "snapshots" and route.kind == "stocks"
        return Answer(HTTPStatus.OK, _json(found if is_bare else {route.what: found}))

    def _last(self, route: _Route, symbol: str, known_ns: int) -> Any:
        for span_ns in _LOOK_BACK_NS:
            rows = self._view(route, symbol, max(known_ns - span_ns, 0), known_ns, known_ns)
            if rows:
                return Raw(rows[-1].json)
        return None

    def _book(self, route: _Route, symbol: str, known_ns: int) -> Any:
        market = self._markets.get(route.kind)
        book = market.book(symbol, known_ns) if market is not None else None
        if book is None:
            return None
        fields = msgspec.json.decode(book.encode("json"), type=dict[str, Raw])
        return {key: fields[key] for key in ("t", "b", "a")}

    def _snapshot(self, route: _Route, symbol: str, known_ns: int) -> Any:
        """Return the latest trade, quote and minute, the day so far and the day before."""
        parts = {"latestTrade": "trades", "latestQuote": "quotes", "minuteBar": "bars"}
        found = {
            name: self._last(route._replace(what=what), symbol, known_ns)
            for name, what in parts.items()
        }
        days = route._replace(what="bars", timeframe=_DAY)
        rows = self._view(days, symbol, max(known_ns - _DAYS_BACK_NS, 0), known_ns, known_ns)
        for name, row in zip(("dailyBar", "prevDailyBar"), rows[::-1], strict=False):
            found[name] = Raw(row.json)
        return {name: one for name, one in found.items() if one}


def _cut(rows: Sequence[Row], index: int, most: int, descending: bool) -> Sequence[Row]:
    """Return rows from a place on, counted from the end where the newest come first."""
    if not descending:
        return rows[index : index + most]
    end = len(rows) - index
    return rows[max(end - most, 0) : end][::-1]


def _page_body(what: str, shown: Sequence[tuple[str, Sequence[Row]]], token: str | None) -> bytes:
    parts = [
        b"%b:[%b]" % (_json(symbol), b",".join(row.json for row in rows)) for symbol, rows in shown
    ]
    return b'{"%b":{%b},"next_page_token":%b}' % (what.encode(), b",".join(parts), _json(token))


def behind_ns(schedule: Schedule, now_ns: int) -> int:
    """Return what a fault makes the published clock be behind."""
    window = schedule.window("clock_skew", now_ns)
    return int(window.fault.size * NANOS) if window is not None else 0
