"""How the raw lake is cut into pieces that are read one after the other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.lake import Span
from marketpipe.pipelines.rawpieces import Piece, pieces

FLUSHES = [Span("a0", 0, 98), Span("a1", 1, 99), Span("b", 100, 199), Span("c", 200, 299)]


@pytest.mark.parametrize(
    ("files", "bounds", "expected"),
    [
        pytest.param(
            FLUSHES,
            (0, 300),
            [Piece(0, 100, ["a0", "a1"]), Piece(100, 200, ["b"]), Piece(200, 300, ["c"])],
            id="flush by flush, no file for two pieces",
        ),
        pytest.param(
            FLUSHES,
            (150, 250),
            [Piece(150, 200, ["b"]), Piece(200, 250, ["c"])],
            id="from within a file into another",
        ),
        pytest.param(
            [Span("x", 0, 298), Span("y", 1, 299)],
            (0, 300),
            [Piece(0, 100, ["x", "y"]), Piece(100, 200, ["x", "y"]), Piece(200, 300, ["x", "y"])],
            id="what was put together is cut evenly",
        ),
        pytest.param(
            [Span("x", 0, 9), Span("y", 10, 19), Span("z", 20, 119)],
            (0, 120),
            [Piece(0, 120, ["x", "y", "z"])],
            id="small flushes are read together",
        ),
        pytest.param(
            [Span("old", None, None), Span("x", 0, 99), Span("y", 100, 199)],
            (0, 200),
            [Piece(0, 100, ["old", "x"]), Piece(100, 200, ["old", "y"])],
            id="a file of unknown range is in every piece",
        ),
        pytest.param(
            [Span("x", 0, 99), Span("z", 200, 299)],
            (0, 300),
            [Piece(0, 100, ["x"]), Piece(100, 200, []), Piece(200, 300, ["z"])],
            id="a hole is asked for, so that it is found",
        ),
        pytest.param(FLUSHES, (300, 300), [], id="nothing asked"),
    ],
)
def test_pieces(files: list[Span], bounds: tuple[int, int], expected: list[Piece]) -> None:
    assert [
        piece._replace(files=sorted(piece.files)) for piece in pieces(files, *bounds, size=100)
    ] == expected


@given(
    ranges=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 200)), max_size=12),
    first=st.integers(0, 300),
    length=st.integers(0, 500),
    size=st.integers(2, 120),
)
def test_every_offset_is_in_one_piece_with_all_its_files(
    ranges: list[tuple[int, int]], first: int, length: int, size: int
) -> None:
    ranges = [(low, low + more) for low, more in ranges]
    files = [Span(str(k), low, high) for k, (low, high) in enumerate(ranges)]
    cut = list(pieces(files, first, first + length, size=size))
    assert [o for piece in cut for o in range(piece.start, piece.stop)] == [
        *range(first, first + length)
    ]
    for piece in cut:
        overlapping = {
            str(k)
            for k, (low, high) in enumerate(ranges)
            if low < piece.stop and high >= piece.start
        }
        assert set(piece.files) == overlapping
        assert piece.stop - piece.start <= 2 * size
