"""One connection of the stream: logging in, subscribing, and being sent to."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from marketpipe.simulator.clock import SimClock
from marketpipe.simulator.faults import Schedule
from marketpipe.simulator.market import Event, Market
from marketpipe.simulator.plans import Endpoint, Keys, Plan
from marketpipe.simulator.subscriptions import RefusedError, Subscriptions
from marketpipe.sources.framing import Encoding

Overflow = Literal["disconnect", "wait"]

_to_json = msgspec.json.Encoder().encode
_to_msgpack = msgspec.msgpack.Encoder().encode
_UNKNOWN: Final = {"T": "zz", "S": "SIM", "note": "of a type that nobody knows", "n": [1, None]}


class Setting(NamedTuple):
    """What all connections of a simulator share.

    Attributes
    ----------
    keys, plan : who is let in, and to what
    clock, schedule : what time it is, and what goes wrong
    per_frame : most messages of a frame
    auth_seconds : real seconds in which a client must log in
    buffer_bytes : what may wait for a client that reads too slowly
    overflow : what happens then: ``disconnect`` (407, as the vendor does), or ``wait``: the whole
        endpoint waits for it, as a source of load should
    spawn : starts a task that the server ends
    """

    keys: Keys
    plan: Plan
    clock: SimClock
    schedule: Schedule
    per_frame: int
    auth_seconds: float
    buffer_bytes: int
    overflow: Overflow
    spawn: Callable[[Coroutine[Any, Any, None]], None]


class Room(NamedTuple):
    """What a session needs to know of its endpoint: who is there, and how to come and go."""

    endpoint: Endpoint
    market: Market
    enter: "Callable[[Session], None]"
    leave: "Callable[[Session], None]"
    held: Callable[[str], int]


class Session:
    """One connection.

    Parameters
    ----------
    connection : an open WebSocket; its ``Content-Type`` header says how it is spoken to
    room : its endpoint
    setting : what all connections share
    """

    def __init__(self, connection: ServerConnection, room: Room, setting: Setting) -> None:
        self._connection: Final = connection
        self._room: Final = room
        self._setting: Final = setting
        request = connection.request
        self._headers: Final = request.headers if request is not None else {}
        msgpack = self._headers.get("Content-Type", "").startswith("application/msgpack")
        self.encoding: Final[Encoding] = "msgpack" if msgpack else "json"
        self.subscriptions: Final = Subscriptions(room.endpoint, setting.plan)
        self.account: str | None = None
        self.mute_until_ns: dict[str, int] = {}
        """By channel ("": all): it gets no messages that are due before that time."""
        self.spoiled_frames = 0
        """So many of its next frames are malformed."""
        self.unknown_messages = 0
        """So many messages of an unknown type are put into its next frame."""
        self.is_cut = False
        """Its next frame is cut off, and it with it."""

    async def run(self) -> None:
        """Serve the connection until it ends."""
        deadline = asyncio.get_running_loop().time() + self._setting.auth_seconds
        try:
            self._say({"T": "success", "msg": "connected"})
            account, named = self._setting.keys.of_headers(self._headers)
            if named:
                self._log_in(account)
            while True:
                limit = None if self.account is not None else deadline
                async with asyncio.timeout_at(limit):
                    data = await self._connection.recv()
                self._take(data)
        except TimeoutError:
            self.fail(404, "auth timeout")
            await self._connection.close()
        except ConnectionClosed:
            pass
        finally:
            self._room.leave(self)

    # what the client asks

    def _take(self, data: str | bytes) -> None:
        try:
            self._obey(self._decoded(data))
        except RefusedError as refused:
            self.fail(refused.code, refused.msg)

    def _obey(self, request: dict[str, Any]) -> None:
        action = request.get("action")
        if action == "auth":
            self._authenticate(request)
        elif action not in {"subscribe", "unsubscribe"}:
            raise RefusedError(400, "invalid syntax")
        elif self.account is None:
            raise RefusedError(401, "not authenticated")
        else:
            self._change(request, add=action == "subscribe")

    def _decoded(self, data: str | bytes) -> dict[str, Any]:
        try:
            if self.encoding == "json":
                return msgspec.json.decode(data, type=dict[str, Any])
            return msgspec.msgpack.decode(
                data if isinstance(data, bytes) else data.encode(), type=dict[str, Any]
            )
        except msgspec.MsgspecError:
            raise RefusedError(400, "invalid syntax") from None

    def _authenticate(self, request: dict[str, Any]) -> None:
        if self.account is not None:
            raise RefusedError(403, "already authenticated")
        key, secret = request.get("key"), request.get("secret")
        if not isinstance(key, str) or not isinstance(secret, str):
            raise RefusedError(400, "invalid syntax")
        self._log_in(self._setting.keys.account(key, secret))

    def _log_in(self, account: str | None) -> None:
        """Let an account in, or say why not; where waiting would not help, end the connection."""
        setting, endpoint = self._setting, self._room.endpoint
        now = setting.clock.now_ns()
        if account is None or setting.schedule.window("auth_failure", now, endpoint.path):
            self.fail(402, "auth failed")
        elif not setting.plan.allows(endpoint):
            self.turn_away(409, "insufficient subscription")
        elif (
            self._room.held(account) >= setting.plan.connections
            or setting.schedule.window("contention", now, endpoint.path) is not None
        ):
            self.turn_away(406, "connection limit exceeded")
        else:
            self.account = account
            self._room.enter(self)
            self._say({"T": "success", "msg": "authenticated"})

    def _change(self, request: dict[str, Any], *, add: bool) -> None:
        new = self.subscriptions.change(request, add=add)
        self._say({"T": "subscription", **self.subscriptions.listed()})
        now = self._setting.clock.now_ns()
        for symbol in self._books(new):
            book = self._room.market.book(symbol, now)
            if book is not None:
                self._write(frames_of([book.encode(self.encoding)], self.encoding, 1))
        self._setting.clock.start()

    def _books(self, new: list[tuple[str, str]]) -> list[str]:
        asked = {symbol for channel, symbol in new if channel == "orderbooks"}
        return [one for one in self._room.market.symbols if asked & {one, "*"}]

    # what it is told

    def _say(self, message: dict[str, Any]) -> None:
        """Send a control message, which comes alone."""
        self._write(frames_of([self._encoded(message)], self.encoding, 1))

    def fail(self, code: int, msg: str) -> None:
        """Send an error."""
        self._say({"T": "error", "code": code, "msg": msg})

    def turn_away(self, code: int, msg: str) -> None:
        """Send an error and close the connection, which gives up its place at once."""
        self._room.leave(self)
        self.fail(code, msg)
        self._setting.spawn(self._connection.close())

    def deliver(self, events: Sequence[Event]) -> int:
        """Send those messages that are subscribed; return how many were.

        What the connection does not take for being mute is lost to it.
        """
        if self.mute_until_ns:
            events = [
                event for event in events if not self.mute_until_ns.keys() & {"", event.channel}
            ]
        elements = self.subscriptions.encode(events, self.encoding)
        if not elements:
            return 0
        if self.unknown_messages:
            elements = [self._encoded(_UNKNOWN)] * self.unknown_messages + elements
            self.unknown_messages = 0
        frames = frames_of(elements, self.encoding, self._setting.per_frame)
        for index in range(min(self.spoiled_frames, len(frames))):
            frames[index] = frames[index][: len(frames[index]) // 2]
            self.spoiled_frames -= 1
        self._write(frames)
        waiting = self._connection.transport.get_write_buffer_size()
        if self._setting.overflow == "disconnect" and waiting > self._setting.buffer_bytes:
            self.turn_away(407, "slow client")
        return len(elements)

    def _encoded(self, message: dict[str, Any]) -> bytes:
        return _to_json(message) if self.encoding == "json" else _to_msgpack(message)

    def _write(self, frames: Sequence[bytes]) -> None:
        """Write frames at once; what the socket does not take waits in the buffer."""
        connection = self._connection
        if connection.protocol.state is not State.OPEN:
            return
        extensions = connection.protocol.extensions
        opcode = Opcode.TEXT if self.encoding == "json" else Opcode.BINARY
        written = b"".join(
            [Frame(opcode, one).serialize(mask=False, extensions=extensions) for one in frames]
        )
        if self.is_cut:
            # the half goes out, and then the end of the connection: no closing handshake
            connection.transport.write(written[: len(written) // 2])
            self._room.leave(self)
            connection.transport.close()
        else:
            connection.transport.write(written)

    def drop(self) -> None:
        """End the connection without a closing handshake; what was not sent is lost."""
        self._room.leave(self)
        self._connection.transport.abort()

    async def ready(self) -> None:
        """Wait until the client has taken most of what was sent."""
        with suppress(OSError):
            await self._connection.drain()


def frames_of(elements: Sequence[bytes], encoding: Encoding, per_frame: int) -> list[bytes]:
    """Write messages as frames of at most so many: arrays, as every server message is."""
    parts = [elements[i : i + per_frame] for i in range(0, len(elements), per_frame)]
    if encoding == "json":
        return [b"[%b]" % b",".join(part) for part in parts]
    return [_array_header(len(part)) + b"".join(part) for part in parts]


def _array_header(count: int) -> bytes:
    if count < 16:
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")
