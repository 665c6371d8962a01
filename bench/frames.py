"""Frames made beforehand: the feed of `bench.feed` in msgpack, as Alpaca's SDK asks for it."""

from typing import Any, Final

import msgspec
import numpy as np

from bench import feed
from bench.data import I64
from marketpipe.domain.units import NANOS

END: Final = "END"
"""Symbol of the message that ends a run."""
BLOCK: Final = 100_000
"""So many messages are made; then they come again, with other ids and times."""

_PER_SECOND: Final = 1_000
_BINARY: Final = 0x82
_LONGEST_SHORT: Final = 125
_ID: Final = b"\xa1i\xcf"
_TIME: Final = b"\xa1t\xd7\xff"
_WIDTH: Final = 8
_OCTETS: Final = np.arange(_WIDTH)


class Frames:
    """A block of WebSocket frames in which only ids and times are written before they are sent.

    So a message costs its sender next to nothing, bears the time at which it is sent, and is no
    duplicate of another.

    Parameters
    ----------
    per_frame : messages of a frame; a divisor of ``block``
    block : how many messages are made
    """

    def __init__(self, per_frame: int, block: int = BLOCK) -> None:
        self.block = block
        self.per_frame = per_frame
        written = bytearray()
        starts, ids, times = [], [], []
        messages = _messages(block)
        for first in range(0, block, per_frame):
            starts.append(len(written))
            parts = messages[first : first + per_frame]
            frame = framed(parts)
            begin = len(written) + len(frame) - sum(map(len, parts))
            written += frame
            for part in parts:
                ids.append(begin + part.index(_ID) + len(_ID))
                times.append(begin + part.index(_TIME) + len(_TIME))
                begin += len(part)
        self._octets = np.frombuffer(written, np.uint8)
        self._starts = np.array([*starts, len(written)])
        self._ids, self._times = np.array(ids), np.array(times)
        self._first_ids = self._octets[self._ids[:, None] + _OCTETS].view(">i8")[:, 0].astype("i8")

    def written(self, first: int, stop: int, now_ns: int) -> bytes:
        """Return the frames of messages ``first`` to ``stop`` (exclusive), sent at ``now_ns``.

        Both are multiples of ``per_frame``, and in one block.
        """
        turn, begin = divmod(first, self.block)
        end = begin + stop - first
        self._write(self._ids[begin:end], self._first_ids[begin:end] + turn * self.block)
        seconds, nanos = np.divmod(now_ns + np.arange(stop - first), NANOS)
        self._write(self._times[begin:end], nanos << 34 | seconds)
        cut = self._starts[[begin // self.per_frame, end // self.per_frame]]
        return self._octets[cut[0] : cut[1]].tobytes()

    def _write(self, at: I64, values: I64) -> None:
        self._octets[at[:, None] + _OCTETS] = (
            values.astype(">i8").view(np.uint8).reshape(-1, _WIDTH)
        )


def last(now_ns: int) -> bytes:
    """Return the frame that ends a run: one message, of a symbol of its own."""
    seconds, nanos = divmod(now_ns, NANOS)
    facts = {"T": "t", "S": END, "i": 1, "x": "V", "p": 1.0, "s": 1, "c": ["@"], "z": "C"}
    return framed([_packed(facts, (nanos << 34 | seconds).to_bytes(_WIDTH, "big"))])


def ends(octets: bytes) -> bool:
    """Tell whether a run ends with these bytes."""
    known = last(0)[:-_WIDTH]
    return octets[-_WIDTH - len(known) : -_WIDTH] == known


def framed(messages: list[bytes]) -> bytes:
    """Return a server's frame, which is not masked: its messages as an array."""
    body = msgspec.msgpack.encode([msgspec.Raw(one) for one in messages])
    if len(body) <= _LONGEST_SHORT:
        return bytes((_BINARY, len(body))) + body
    return bytes((_BINARY, 126)) + len(body).to_bytes(2, "big") + body


def _messages(count: int) -> list[bytes]:
    return [
        _packed(facts, bytes(_WIDTH))
        for second in feed.seconds(count, min(count, _PER_SECOND))
        for _, frame in second.frames
        for facts in msgspec.json.decode(frame, type=list[dict[str, Any]])
    ]


def _packed(facts: dict[str, Any], time: bytes) -> bytes:
    return msgspec.msgpack.encode(facts | {"t": msgspec.msgpack.Ext(-1, time)})
