"""An engine's state as a value: to save, to load, to compare, to merge."""

import io
import json
from dataclasses import dataclass

import numpy as np

from marketpipe.bars.layout import AUX, SLOT
from marketpipe.bars.output import Records
from marketpipe.bars.relink import identity_order
from marketpipe.domain.batches import I64, StreamKey
from marketpipe.errors import StateError

FORMAT = 1
_LINKS = ("prev", "next_open")


@dataclass(frozen=True, slots=True, eq=False)
class EngineState:
    """Everything an engine knows; equal histories give equal states and equal bytes.

    Attributes
    ----------
    signature : what engine it belongs to (timeframes, grid, rule set, watermark …)
    streams : names by code
    watermarks : int64 ns per stream
    rows, aux : slots in the order of identity; ``aux`` is empty where the rules need none
    counters : ticks outside the session, late ones, the last row number given out
    resumable : whether an engine can go on from it. Not where tables were given: which trade ids
        were seen, and which row was last, is known to their reader alone
    """

    signature: str
    streams: tuple[StreamKey, ...]
    watermarks: I64
    rows: Records
    aux: Records
    counters: tuple[int, ...]
    resumable: bool = True

    @classmethod
    def of(
        cls,
        signature: str,
        streams: tuple[StreamKey, ...],
        watermarks: I64,
        rows: Records,
        aux: Records | None,
        counters: tuple[int, ...],
        *,
        resumable: bool,
    ) -> "EngineState":
        """Bring an engine's arrays into canonical form (copies)."""
        order = identity_order(rows)
        rows = rows[order]
        for link in _LINKS:
            rows[link] = -1
        kept = np.empty(0, AUX) if aux is None else aux[order]
        return cls(signature, streams, watermarks.copy(), rows, kept, counters, resumable)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EngineState) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Serialize: a JSON line of what is not an array, then the arrays as they lie."""
        head = {
            "format": FORMAT,
            "signature": self.signature,
            "streams": self.streams,
            "counters": self.counters,
            "resumable": self.resumable,
            "rows": len(self.rows),
            "aux": len(self.aux),
        }
        out = io.BytesIO()
        out.write(json.dumps(head, sort_keys=True, separators=(",", ":")).encode() + b"\n")
        for array in (self.watermarks, self.rows, self.aux):
            out.write(array.tobytes())
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "EngineState":
        """Read what `to_bytes` wrote.

        Raises
        ------
        StateError
            If the bytes are not a whole state of a known format.
        """
        line, _, body = data.partition(b"\n")
        try:
            head = json.loads(line)
            if head["format"] != FORMAT:
                raise StateError(f"engine state: format was {head['format']!r}, expected {FORMAT}")
            streams = tuple(StreamKey(*key) for key in head["streams"])
            sizes = (8 * len(streams), head["rows"] * SLOT.itemsize, head["aux"] * AUX.itemsize)
            if sum(sizes) != len(body):
                raise StateError(
                    f"engine state: {len(body)} bytes of arrays, expected {sum(sizes)}; it is "
                    "cut or damaged, so start from the ticks again"
                )
            marks, rest = body[: sizes[0]], body[sizes[0] :]
            return cls(
                head["signature"],
                streams,
                np.frombuffer(marks, np.int64),
                np.frombuffer(rest[: sizes[1]], SLOT),
                np.frombuffer(rest[sizes[1] :], AUX),
                tuple(head["counters"]),
                head["resumable"],
            )
        except (ValueError, KeyError, TypeError) as problem:
            raise StateError(f"engine state: not one of ours ({problem})") from problem
