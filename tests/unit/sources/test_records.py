"""RecordBuilder: columns of what was added, and the frames back out of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.domain.records import NOT_SPLIT, RECORDS
from marketpipe.sources.records import RecordBuilder, arrival_of, frames_of
from recordkit import stored

FRAMES = st.lists(st.binary(max_size=40) | st.sampled_from([b"[1,2]", b"[ 1 , 2 ]", b"[{}]"]))


def a_builder(**changes: object) -> RecordBuilder:
    facts = {"source": "alpaca", "feed": "sip", "stream": "v2/sip", "conn_id": 3}
    return RecordBuilder(**{**facts, "conn_started_ns": 50, **changes})  # type: ignore[arg-type]


def test_builder_of_frames_controls_and_clocks_gives_them_in_order() -> None:
    builder = a_builder(symbol_of=lambda payload: bytes(payload)[2:3].decode())
    builder.add_control({"event": "connected"}, 100)
    assert builder.add_frame(b'["A","B"]', 110) == 2
    builder.add_clock(120)
    assert builder.add_frame(b"{}", 130) == 1
    batch = builder.take()
    assert batch.schema == RECORDS
    batch.validate(full=True)
    rows = [
        (r["kind"], r["symbol"], r["frame_seq"], r["msg_index"], r["frame_len"], r["ts_recv"])
        for r in batch.to_pylist()
    ]
    assert rows == [
        ("control", "", 0, NOT_SPLIT, 21, 100),
        ("data", '"', 0, 0, 9, 110),
        ("data", '"', 0, 1, 9, 110),
        ("clock", "", 1, NOT_SPLIT, 0, 120),
        ("data", "", 1, NOT_SPLIT, 2, 130),
    ]
    assert batch.column("payload").to_pylist() == [
        b'{"event":"connected"}', b'"A"', b'"B"', b"", b"{}"
    ]  # fmt: skip
    assert batch.column("envelope").to_pylist()[1:3] == [b"", None]
    assert len(builder) == 0


def test_builder_numbers_frames_on_after_a_batch() -> None:
    builder = a_builder(next_frame=5)
    builder.add_frame(b"[1]", 1)
    first = builder.take()
    builder.add_frame(b"[2]", 2)
    seqs = [b.column("frame_seq").to_pylist() for b in (first, builder.take())]
    assert seqs == [[5], [6]]


def test_builder_without_records_gives_an_empty_batch() -> None:
    assert len(a_builder().take()) == 0


@given(FRAMES)
def test_frames_of_stored_records_are_those_that_were_added(frames: list[bytes]) -> None:
    builder = a_builder()
    for k, frame in enumerate(frames):
        builder.add_frame(frame, k)
        builder.add_clock(k)
    assert list(frames_of(stored(builder.take()))) == frames


def test_frames_of_records_without_a_first_one_are_refused() -> None:
    builder = a_builder()
    builder.add_frame(b"[1,2]", 1)
    with pytest.raises(ValueError, match="first record of a frame is missing"):
        list(frames_of(builder.take().slice(1)))


def test_arrival_of_a_frame_that_is_not_split_has_index_zero() -> None:
    builder = a_builder()
    builder.add_frame(b"[1,2]", 1)
    builder.add_frame(b"{}", 2)
    arrival = arrival_of(stored(builder.take()))
    assert arrival.seq.tolist() == [0, 1, 1 << 20]
    assert arrival.conn_started.tolist() == [50] * 3
    assert arrival.conn.tolist() == [3] * 3
