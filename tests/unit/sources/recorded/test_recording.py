"""Recordings: frames come back byte for byte, with the clock between them."""

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pytest

from marketpipe.domain.records import NOT_SPLIT
from marketpipe.errors import CorruptError, InputError
from marketpipe.sources.recorded import Recording
from marketpipe.sources.recorded.client import MAX_FRAME_BYTES
from marketpipe.sources.records import frames_of

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def recorded(data: bytes, **options: object) -> list[dict[str, object]]:
    source = Recording(io.BytesIO(data), source="binance", **options)  # type: ignore[arg-type]
    return [row for batch in source.records() for row in batch.to_pylist()]


def test_recording_puts_a_clock_where_a_second_passes() -> None:
    lines = [
        (START + 400_000_000, b"[1]"),
        (START + 900_000_000, b"[2]"),
        (START + SECOND, b"[3]"),
        (START + 5 * SECOND + 1, b"[4]"),
        (START + 2 * SECOND, b"[5]"),
    ]
    data = b"".join(b"%d %s\n" % line for line in lines)
    rows = recorded(data, final_clock=True)
    assert [(r["kind"], r["ts_recv"] - START, r["payload"]) for r in rows[1:]] == [  # type: ignore[operator]
        ("data", 400_000_000, b"1"),
        ("data", 900_000_000, b"2"),
        ("clock", SECOND, b""),
        ("data", SECOND, b"3"),
        ("clock", 5 * SECOND, b""),
        ("data", 5 * SECOND + 1, b"4"),
        ("data", 5 * SECOND + 1, b"5"),
        ("control", 5 * SECOND + 1, b'{"event":"disconnected"}'),
        ("clock", 6 * SECOND + 1, b""),
    ]
    assert (rows[0]["kind"], rows[0]["ts_recv"]) == ("control", START + 400_000_000)
    assert {r["conn_started_ns"] for r in rows} == {START + 400_000_000}


def test_recording_cut_into_batches_gives_the_same_records() -> None:
    data = b"".join(b"%d [%d,%d]\n" % (START + k * 300_000_000, k, k) for k in range(100))
    assert recorded(data, batch_records=7) == recorded(data)


def test_recording_hands_on_a_line_without_a_time() -> None:
    rows = recorded(b"%d [1]\nnonsense\n-1 [2]\n" % START)
    assert [r["payload"] for r in rows if r["kind"] == "data"] == [b"1", b"nonsense", b"-1 [2]"]
    assert [r["msg_index"] for r in rows if r["kind"] == "data"] == [0, NOT_SPLIT, NOT_SPLIT]


def test_recording_without_a_line_gives_no_records() -> None:
    assert recorded(b"") == []


def test_recording_that_ends_early_gives_what_came_before() -> None:
    lines = b"".join(b"%d [%d]\n" % (START + k, k * k) for k in range(50_000))
    packed = gzip.compress(lines)
    batches: list[pa.RecordBatch] = []
    source = Recording(io.BytesIO(packed[: len(packed) // 2]), source="binance")
    with pytest.raises(CorruptError, match="ends early"):
        batches.extend(source.records())
    assert sum(map(len, batches)) > 1_000


def test_recording_of_one_endless_line_is_refused() -> None:
    with pytest.raises(InputError, match="a line is longer than"):
        recorded(b"x" * (MAX_FRAME_BYTES + (1 << 18) + 1))


@pytest.mark.data
def test_recording_of_a_real_feed_gives_its_frames_back(market_data: Path) -> None:
    path = market_data / "binance_eth" / "ethusdt_20240808.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    source = Recording(path, source="binance", feed="spot")
    batches = list(source.records())
    frames = [frame for batch in batches for frame in frames_of(batch)]
    assert frames == [line.split(b" ", 1)[1] for line in lines]
    times = [t for batch in batches for t in batch.column("ts_recv").to_pylist()]
    assert times == sorted(times)
    clocks = [row["ts_recv"] for b in batches for row in b.to_pylist() if row["kind"] == "clock"]
    assert all(clock % SECOND == 0 for clock in clocks)
    span = {int(line.split(b" ", 1)[0]) // SECOND for line in lines}
    assert len(clocks) == len(span) - 1
