"""Recordings of a feed with the vendor's own bars, every value worked out by hand."""

from collections.abc import Iterable
from pathlib import Path

from feedkit import OPEN
from livekit import Message, cancel, correction, encode, trade
from marketpipe.domain.units import NANOS, format_ns

Found = tuple[float, Message]
"""When a message is received, in seconds after the open, and the message."""


def at(second: float) -> int:
    """Return an instant after the open."""
    return OPEN + round(second * NANOS)


def print_of(
    number: int, second: float, price: str, size: int, codes: str = "@", *, symbol: str = "AAPL"
) -> Message:
    """Make a trade of tape C."""
    made = trade(number, at(second), price, size, symbol=symbol)
    return {**made, "z": "C", "c": codes.split()}


def heard(message: Message, second: float) -> Found:
    """Let a message be received a tenth of a second after something."""
    return second + 0.1, message


def bar(kind: str, second: float, values: str, *, symbol: str = "AAPL") -> Message:
    """Make a bar of the vendor: kind ``b``, ``u`` or ``d``, values ``o h l c v n vw``."""
    o, h, low, c, v, n, vw = values.split()
    return {
        "T": kind, "S": symbol, "o": float(o), "h": float(h), "l": float(low), "c": float(c),
        "v": int(v), "t": format_ns(at(second)), "n": int(n), "vw": float(vw),
    }  # fmt: skip


def session() -> list[Found]:
    """Return seven minutes of AAPL and what the vendor says of them by its published rules.

    14:30 an odd lot: volume only. vwap (10000 + 5050 + 2992.5) / 180
    14:31 a late print, after the bar: the update has it. vwap (1020 + 1030 + 2080) / 40
    14:32 a cancel and a correction within the minute. vwap (1050 + 1284) / 22
    14:33 its high is cancelled long after the vendor's last word on it
    14:34 a print that is first-only in days is volume only in minutes
    14:35 a lone odd lot: no bar
    14:36 a print that counts for nothing
    """
    prints = [
        print_of(1, 1, "100", 100),
        print_of(2, 10, "101", 50),
        print_of(3, 20, "99.5", 7, "@ I"),
        print_of(4, 30, "99.75", 30),
        print_of(5, 65, "102", 10),
        print_of(6, 100, "103", 10),
        print_of(8, 125, "105", 10),
        print_of(9, 130, "110", 10),
        print_of(10, 140, "106", 10),
        print_of(11, 185, "108", 10),
        print_of(12, 190, "109", 10),
        print_of(13, 245, "50", 10, "4"),
        print_of(14, 250, "111", 10),
        print_of(15, 305, "112", 5, "@ I"),
        print_of(16, 365, "113", 10),
        print_of(17, 370, "200", 5, "@ 9"),
    ]
    by_id = {one["i"]: one for one in prints}
    found = [heard(one, _second(one)) for one in prints]
    found += [
        heard(print_of(7, 119.998, "104", 20), 130),
        heard(cancel(by_id[9], at(160)), 160),
        heard(correction(by_id[10], at(170), new_id=1010, price="107", size=12), 170),
        heard(cancel(by_id[12], at(400)), 400),
        (60.5, bar("b", 0, "100 101 99.75 99.75 187 4 100.236111")),
        (120.5, bar("b", 60, "102 103 102 103 20 2 102.5")),
        (150.5, bar("u", 60, "102 104 102 104 40 3 103.25")),
        (180.5, bar("b", 120, "105 107 105 107 22 2 106.090909")),
        (240.5, bar("b", 180, "108 109 108 109 20 2 108.5")),
        (300.5, bar("b", 240, "111 111 111 111 20 2 111")),
        (420.5, bar("b", 360, "113 113 113 113 10 1 113")),
    ]
    return found


def _second(message: Message) -> float:
    stamp = message["t"]
    hours, minutes, seconds = stamp.partition("T")[2].removesuffix("Z").split(":")
    return (int(hours) - 14) * 3600 + (int(minutes) - 30) * 60 + float(seconds)


def replaced(found: Iterable[Found], kind: str, second: float, **cells: object) -> list[Found]:
    """Change cells of one of the vendor's bars, the one of a kind and minute."""
    stamp = format_ns(at(second))
    out = []
    hit = 0
    for when, message in found:
        mine = message["T"] == kind and message["t"] == stamp
        hit += mine
        out.append((when, {**message, **cells} if mine else message))
    assert hit == 1
    return out


def without(found: Iterable[Found], kind: str, second: float) -> list[Found]:
    """Leave one of the vendor's bars out."""
    stamp = format_ns(at(second))
    return [one for one in found if (one[1]["T"], one[1]["t"]) != (kind, stamp)]


def recorded(
    path: Path, found: Iterable[Found], *, start: float = -5.0, end: float = 600.0
) -> Path:
    """Write messages as a recording, each in a frame of its own, from start to end."""
    edges: list[Found] = [(second, {"T": "success", "msg": "hello"}) for second in (start, end)]
    ordered = sorted([*edges, *found], key=lambda one: one[0])
    lines = [f"{at(second)} [{encode(message)}]" for second, message in ordered]
    path.write_text("\n".join(lines) + "\n")
    return path
