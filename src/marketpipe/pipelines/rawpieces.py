"""How the raw lake is read in order: piece by piece, each from the files that it is in."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from marketpipe.lake import Span

PIECE: Final = 250_000
"""Records that are put in order at a time, about."""


class Piece(NamedTuple):
    """Offsets from ``start`` to ``stop`` (exclusive), and every file that can hold one of them."""

    start: int
    stop: int
    files: list[str]


def pieces(files: Sequence[Span], first: int, stop: int, size: int = PIECE) -> Iterator[Piece]:
    """Cut offsets from ``first`` to ``stop`` (exclusive) into pieces of about ``size``.

    A flush leaves files whose offsets all lie before those of the next. Where that is so is the
    place to cut: no file is then opened for two pieces. Files put together by a compaction span
    more than a piece, and are cut evenly; each piece of them reads the row groups that it needs.
    """
    start = first
    for cut in [*_clean_cuts(files, first, stop), stop]:
        if cut < stop and cut - start < size // 2:
            continue
        count = max(round((cut - start) / size), 1)
        edges = [start + (cut - start) * k // count for k in range(count + 1)]
        for low, high in pairwise(edges):
            if low < high:
                yield Piece(low, high, _holding(files, low, high))
        start = cut


def _clean_cuts(files: Sequence[Span], first: int, stop: int) -> list[int]:
    """Return the offsets between two files of which no file holds some on both sides."""
    known = [(f.least, f.greatest) for f in files if f.least is not None and f.greatest is not None]
    cuts, reached = [], first
    for least, greatest in sorted(known):
        if reached < least < stop:
            cuts.append(least)
        reached = max(reached, greatest)
    return cuts


def _holding(files: Sequence[Span], low: int, high: int) -> list[str]:
    return [
        file.path
        for file in files
        if file.least is None
        or file.greatest is None
        or (file.least < high and file.greatest >= low)
    ]
