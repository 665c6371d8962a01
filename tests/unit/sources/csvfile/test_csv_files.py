"""Files as they come: packed, cut, from standard input, with odd line ends."""

import bz2
import gzip
import io
import sys
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from marketpipe.errors import CorruptError, HeaderError
from marketpipe.sources.csvfile import CsvSource

LINES = [f"A,{k},{k}.5,1\n".encode() for k in range(60_000)]
PLAIN = b"symbol,ts_ns,price,size\n" + b"".join(LINES)
ZSTD = zstandard.ZstdCompressor(write_checksum=True)
PACKED = {
    "gzip": gzip.compress(PLAIN, mtime=0),
    "gzip members": gzip.compress(PLAIN[:70_000]) + gzip.compress(PLAIN[70_000:]) + bytes(512),
    "zstd": ZSTD.compress(PLAIN),
    "zstd frames": zstandard.compress(PLAIN[:70_000]) + zstandard.compress(PLAIN[70_000:]),
    "plain": PLAIN,
}


class Dripping(io.RawIOBase):
    """A stream that gives one byte at a time, as a pipe may."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 1))


@pytest.mark.parametrize("packing", PACKED)
def test_csv_packed_gives_every_row(packing: str) -> None:
    source = CsvSource(io.BytesIO(PACKED[packing]))
    assert sum(len(batch) for batch in source.batches()) == len(LINES)
    assert f"({packing.split(maxsplit=1)[0]} CSV" in source.describe()


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_csv_read_byte_by_byte_gives_every_row(packing: str) -> None:
    stream = Dripping(PACKED[packing])
    source = CsvSource(stream)  # type: ignore[arg-type]
    assert sum(len(batch) for batch in source.batches()) == len(LINES)


@pytest.mark.parametrize("packing", ["gzip", "gzip members", "zstd", "zstd frames"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.999])
def test_csv_cut_gives_every_complete_line_then_an_error(packing: str, share: float) -> None:
    data = PACKED[packing].rstrip(b"\0")
    data = data[: int(len(data) * share)]
    rows: list[int] = []
    with pytest.raises(CorruptError, match="ends early") as caught:  # noqa: PT012  # as they come
        for batch in CsvSource(io.BytesIO(data)).batches():
            rows += batch.ts_event.tolist()
    assert rows == list(range(len(rows)))
    assert f"{len(rows):,} rows and 0 bad rows before it were read" in str(caught.value)
    assert b"".join(LINES[: len(rows)]) == PLAIN[24:][: len(b"".join(LINES[: len(rows)]))]


def test_csv_gzip_cut_at_its_trailer_still_gives_every_row() -> None:
    rows = 0
    with pytest.raises(CorruptError, match="60,000 rows"):  # noqa: PT012  # as they come
        for batch in CsvSource(io.BytesIO(PACKED["gzip"][:-4])).batches():
            rows += len(batch)
    assert rows == len(LINES)


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_csv_with_flipped_bytes_is_a_corrupt_error(packing: str) -> None:
    data = bytearray(PACKED[packing])
    data[len(data) // 2 : len(data) // 2 + 40] = b"\xff" * 40
    with pytest.raises(CorruptError, match=f"the {packing} data does not decode"):
        list(CsvSource(io.BytesIO(bytes(data))).batches())


@pytest.mark.parametrize(("suffix", "kind"), [("gz", "gzip"), ("zst", "zstd")])
def test_csv_named_as_packed_but_plain_is_a_corrupt_error(
    tmp_path: Path, suffix: str, kind: str
) -> None:
    path = tmp_path / f"ticks.csv.{suffix}"
    path.write_bytes(PLAIN)
    with pytest.raises(CorruptError, match=f"does not start as {kind} does.*73 79 6d 62"):
        CsvSource(path)


def test_csv_packed_in_another_way_is_a_header_error() -> None:
    with pytest.raises(HeaderError, match="plain or packed as gzip or zstd"):
        CsvSource(io.BytesIO(bz2.compress(PLAIN)))


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_csv_that_unpacks_to_nothing_is_empty(packing: str) -> None:
    data = {"gzip": gzip.compress(b""), "zstd": zstandard.compress(b"")}[packing]
    with pytest.raises(HeaderError, match="the file is empty"):
        CsvSource(io.BytesIO(data))


def test_csv_from_standard_input_is_unpacked_by_its_first_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PACKED["gzip"])))
    source = CsvSource("-")
    assert sum(len(batch) for batch in source.batches()) == len(LINES)
    assert source.progress() == (len(PACKED["gzip"]), None)
    assert not sys.stdin.buffer.closed


def test_csv_of_a_path_reports_progress_and_closes(tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv.gz"
    path.write_bytes(PACKED["gzip"])
    with CsvSource(path, batch_rows=100) as source:
        done, total = source.progress()
        assert 0 < done <= len(PACKED["gzip"])
        assert total == len(PACKED["gzip"])
        assert sum(len(batch) for batch in source.batches()) == len(LINES)
        assert source.progress() == (total, total)


def test_csv_left_before_its_end_closes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    path.write_bytes(PLAIN)
    with CsvSource(path, batch_rows=10) as source:
        assert len(next(iter(source.batches()))) == 10


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("symbol,ts_ns,price,size\r\nA,1,1,1\r\nA,2,1,1\r\n", [2, 3]),
        ("\ufeffsymbol,ts_ns,price,size\nA,1,1,1\nA,2,1,1", [2, 3]),
        ("symbol,ts_ns,price,size\n\n\r\nA,1,1,1\n\nA,2,1,1\r", [4, 6]),
    ],
)
def test_csv_line_ends_marks_and_blank_lines_are_understood(text: str, rows: list[int]) -> None:
    (batch,) = CsvSource(io.BytesIO(text.encode())).batches()
    assert (batch.row.tolist(), batch.bad) == (rows, ())
    assert batch.ts_event.tolist() == [1, 2]


def test_csv_zstd_bomb_is_unpacked_in_bounded_memory() -> None:
    bomb = zstandard.compress(b"symbol,ts_ns,price,size\n" + bytes(200_000_000))
    tracemalloc.start()
    source = CsvSource(io.BytesIO(bomb), batch_rows=1_000)
    (batch,) = source.batches()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000_000
    assert [(bad.reason, bad.raw_bytes) for bad in batch.bad] == [("line_too_long", 200_000_000)]
