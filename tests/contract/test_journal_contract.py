"""What every journal must do: one suite over memory and SQLite."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journalkit import T0, batch, expected, numbered, offsets_of, record, rows_of
from marketpipe.domain.records import RECORDS, Kind
from marketpipe.errors import JournalError, UsageError
from marketpipe.journal import Journal, JournalReader, MemoryJournal, SqliteJournal

Make: TypeAlias = Callable[[], Journal]

# Small segments, so that the suite comes past their ends again and again; 1 is one per append.
MAKERS: dict[str, Callable[[Path], Journal]] = {
    "memory": lambda folder: MemoryJournal("alpaca"),
    "sqlite-process": lambda folder: SqliteJournal(folder, "alpaca", segment_bytes=1),
    "sqlite-power": lambda folder: SqliteJournal(
        folder, "alpaca", durability="power", segment_bytes=1000
    ),
    "sqlite-one-segment": lambda folder: SqliteJournal(folder, "alpaca"),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a new journal at each call."""
    return lambda: MAKERS[request.param](tmp_path_factory.mktemp("journal"))


@pytest.fixture
def journal(make: Make) -> Iterator[Journal]:
    with make() as made:
        yield made


@pytest.fixture
def reader(journal: Journal) -> Iterator[JournalReader]:
    with closing(journal.reader()) as made:
        yield made


def test_new_journal_has_no_records(journal: Journal, reader: JournalReader) -> None:
    assert (journal.journal_id, reader.journal_id) == ("alpaca", "alpaca")
    assert (journal.next_offset, journal.last_ts_recv, journal.repairs) == (0, None, ())
    assert (reader.first_offset, reader.next_offset, reader.check()) == (0, 0, ())
    assert list(reader.read(0)) == []
    assert [reader.last("data"), reader.last("control"), reader.last("clock")] == [None] * 3


def test_append_returns_dense_offsets(journal: Journal, reader: JournalReader) -> None:
    assert [journal.append(numbered(n * 3, n * 3 + 3)) for n in range(40)] == list(range(0, 120, 3))
    assert journal.next_offset == reader.next_offset == 120
    assert rows_of(reader.read(0)) == expected([record(n) for n in range(120)], "alpaca")


def test_append_takes_tables_of_many_chunks(journal: Journal, reader: JournalReader) -> None:
    table = pa.Table.from_batches([numbered(n, n + 1) for n in range(50)])
    assert journal.append(table) == 0
    assert journal.append(table.slice(10, 5)) == 50
    assert [row["frame_seq"] for row in rows_of(reader.read(48))] == [48, 49, *range(10, 15)]


def test_append_of_nothing_writes_nothing(journal: Journal, reader: JournalReader) -> None:
    journal.append(numbered(0, 5))
    assert journal.append(numbered(0, 0)) == 5
    assert journal.append(RECORDS.empty_table()) == 5
    assert reader.next_offset == 5


def test_ts_recv_never_steps_back(journal: Journal, reader: JournalReader) -> None:
    given_ns = [5, 3, 9, 8, 2, 10, 1]
    rows = [record(n, ts_recv=T0 + ns) for n, ns in enumerate(given_ns)]
    journal.append(batch(rows[:4]))
    assert journal.last_ts_recv == T0 + 9
    journal.append(batch(rows[4:]))
    # Running maximum of given_ns, by hand.
    assert [row["ts_recv"] - T0 for row in rows_of(reader.read(0))] == [5, 5, 9, 9, 9, 10, 10]
    assert journal.last_ts_recv == T0 + 10


def test_ts_recv_before_the_epoch_is_kept(journal: Journal, reader: JournalReader) -> None:
    journal.append(batch([record(0, ts_recv=-5), record(1, ts_recv=-7)]))
    assert [row["ts_recv"] for row in rows_of(reader.read(0))] == [-5, -5]


def test_every_byte_comes_back(journal: Journal, reader: JournalReader) -> None:
    rows = [
        record(0, symbol="", payload=b"", envelope=b""),
        record(1, symbol="НОРНИКЕЛЬ-株式-🚀", stream="a\0b", payload=bytes(range(256))),
        record(2, envelope=b"[" * 3000, msg_index=-1, frame_len=2**31 - 1),
        record(3, kind="control", payload=b'{"event":"connect"}', conn_id=-(2**63)),
        record(4, kind="clock", payload=b"", frame_seq=2**63 - 1),
    ]
    journal.append(batch(rows))
    assert rows_of(reader.read(0)) == expected(rows, "alpaca")


def test_large_append_is_one_append(journal: Journal, reader: JournalReader) -> None:
    count = 150_000
    table = pa.Table.from_batches([numbered(0, 1000)] * (count // 1000))
    assert journal.append(table) == 0
    parts = list(reader.read(0))
    assert max(part.num_rows for part in parts) <= 65_536
    assert sum(part.num_rows for part in parts) == count
    numbers = pa.concat_batches(parts).column("offset")
    assert numbers.equals(pa.array(range(count)))


def test_large_payloads_come_back(journal: Journal, reader: JournalReader) -> None:
    sizes = [9_000_000, 1, 0] + [700_000] * 9
    noise = hashlib.shake_256(b"payloads")
    rows = [record(n, payload=noise.digest(size)) for n, size in enumerate(sizes)]
    journal.append(batch(rows))
    assert rows_of(reader.read(0)) == expected(rows, "alpaca")


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_read_gives_no_larger_batches_than_asked(
    journal: Journal, reader: JournalReader, size: int
) -> None:
    for start in range(0, 90, 9):
        journal.append(numbered(start, start + 9))
    parts = list(reader.read(4, size))
    assert all(0 < part.num_rows <= size for part in parts)
    assert offsets_of(parts) == list(range(4, 90))


def test_read_ends_at_what_was_durable_at_the_call(journal: Journal, reader: JournalReader) -> None:
    journal.append(numbered(0, 10))
    reading = reader.read(0)
    journal.append(numbered(10, 20))
    assert offsets_of(reading) == list(range(10))


def test_read_at_the_end_gives_nothing(journal: Journal, reader: JournalReader) -> None:
    journal.append(numbered(0, 10))
    assert list(reader.read(10)) == []


@pytest.mark.parametrize("offset", [-1, 11])
def test_read_outside_says_what_there_is(
    journal: Journal, reader: JournalReader, offset: int
) -> None:
    journal.append(numbered(0, 10))
    with pytest.raises(JournalError, match=rf"was '{offset}'.* 0 \(inclusive\) to 10 \(excl"):
        reader.read(offset)


def test_read_of_empty_batches_is_refused(reader: JournalReader) -> None:
    with pytest.raises(UsageError, match="max_records: was '0'"):
        reader.read(0, 0)


def test_last_finds_each_kind(journal: Journal, reader: JournalReader) -> None:
    kinds: list[Kind] = ["control", "data", "clock", "data", "data"]
    journal.append(batch(record(n, kind=kind) for n, kind in enumerate(kinds)))
    for n in range(5, 60):
        journal.append(numbered(n, n + 1))
    assert [reader.last("control"), reader.last("clock"), reader.last("data")] == [0, 2, 59]
    journal.append(batch([record(60, kind="clock")]))
    assert reader.last("clock") == 60


def test_last_of_an_unknown_kind_is_refused(reader: JournalReader) -> None:
    with pytest.raises(UsageError, match="kind: was 'tick'"):
        reader.last("tick")  # type: ignore[arg-type]


def test_backwards_gives_one_kind_from_the_last_to_the_first(
    journal: Journal, reader: JournalReader
) -> None:
    assert list(reader.backwards("control")) == []
    kinds: list[Kind] = ["control", "data", "data", "control", "control", "clock", "data"]
    rows = [record(n, kind=kinds[n % 7]) for n in range(70)]
    for start in range(0, 70, 9):
        journal.append(batch(rows[start : start + 9]))
    kept = expected(rows, "alpaca")
    for kind in ("control", "data", "clock"):
        found = rows_of(reader.backwards(kind))
        assert found == [row for row in reversed(kept) if row["kind"] == kind]
    first = journal.retain(40)
    assert offsets_of(reader.backwards("clock")) == [
        n for n in (68, 61, 54, 47, 40, 33, 26, 19, 12, 5) if n >= first
    ]


def test_retain_keeps_all_from_the_offset_on(journal: Journal, reader: JournalReader) -> None:
    for start in range(0, 1000, 10):
        journal.append(numbered(start, start + 10))
    kept = journal.retain(700)
    assert kept <= 700
    assert reader.first_offset == kept
    assert offsets_of(reader.read(kept)) == list(range(kept, 1000))
    assert reader.check() == ()
    assert journal.retain(0) == kept
    assert journal.append(numbered(0, 1)) == 1000


@pytest.mark.parametrize("maker", ["memory", "sqlite-process"])
def test_retain_lets_go_of_records(tmp_path: Path, maker: str) -> None:
    with MAKERS[maker](tmp_path) as journal, closing(journal.reader()) as reader:
        journal.append(batch([record(0, kind="clock")]))
        journal.append(numbered(1, 10))
        journal.append(numbered(10, 20))
        assert journal.retain(9) == 1
        assert journal.retain(20) == 10
        with pytest.raises(JournalError, match="offsets below were deleted"):
            reader.read(9)
        assert reader.last("clock") is None
        assert reader.last("data") == 19


def test_retain_past_the_end_is_refused(journal: Journal) -> None:
    journal.append(numbered(0, 10))
    with pytest.raises(JournalError, match="from_offset was '11', must be at most 10"):
        journal.retain(11)


def _without(name: str) -> pa.RecordBatch:
    return numbered(0, 1).drop_columns([name])


def _retyped(name: str, kind: pa.DataType) -> pa.RecordBatch:
    index = RECORDS.get_field_index(name)
    table = pa.Table.from_batches([numbered(0, 1)])
    return table.set_column(index, pa.field(name, kind), table.column(name).cast(kind))


def _null(name: str) -> pa.RecordBatch:
    columns = numbered(0, 1).columns
    columns[RECORDS.get_field_index(name)] = pa.nulls(1, RECORDS.field(name).type)
    return pa.RecordBatch.from_arrays(columns, schema=RECORDS)


def _not_text() -> pa.RecordBatch:
    columns = numbered(0, 1).columns
    offsets = pa.py_buffer(b"\0\0\0\0\2\0\0\0")
    columns[4] = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))
    return pa.RecordBatch.from_arrays(columns, schema=RECORDS)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (_without("payload"), "column 'payload' is missing"),
        (_retyped("ts_recv", pa.string()), "column 'ts_recv' was .*string.* must be .*int64"),
        (numbered(0, 1).select(RECORDS.names[::-1]), "in this order"),
        (_null("ts_recv"), "column 'ts_recv' holds a null"),
        (_not_text(), "malformed"),
        (batch([record(0, kind="tick")]), "kind was 'tick'; valid are data, control, clock"),  # type: ignore[arg-type]
    ],
)
def test_append_of_other_than_records_changes_nothing(
    journal: Journal, reader: JournalReader, records: Any, words: str
) -> None:
    journal.append(numbered(0, 3))
    if records.schema.equals(RECORDS):  # good records before the bad one are not kept either
        records = pa.Table.from_batches([numbered(3, 6), records])
    with pytest.raises(JournalError, match=words):
        journal.append(records)
    assert journal.next_offset == reader.next_offset == 3
    assert journal.append(numbered(3, 4)) == 3
    assert offsets_of(reader.read(0)) == [0, 1, 2, 3]


def test_closed_writer_refuses_and_readers_go_on(journal: Journal, reader: JournalReader) -> None:
    journal.append(numbered(0, 3))
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.append(numbered(3, 4))
    assert offsets_of(reader.read(0)) == [0, 1, 2]
    reader.close()
    assert reader.next_offset == 3
    reader.close()


def test_reader_sees_only_whole_appends_while_a_writer_writes(
    journal: Journal, reader: JournalReader
) -> None:
    def write() -> None:
        for start in range(0, 1000, 10):
            journal.append(numbered(start, start + 10))

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[int] = []
    while len(seen) < 1000:
        found = offsets_of(reader.read(len(seen), 64))
        assert len(found) % 10 == 0
        seen += found
    writer.join()
    assert seen == list(range(1000))


def test_threads_that_share_a_writer_get_offsets_of_their_own(
    journal: Journal, reader: JournalReader
) -> None:
    firsts: dict[int, int] = {}

    def write(number: int) -> None:
        for n in range(number, number + 20):
            firsts[n] = journal.append(batch([record(n), record(n)]))

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [row["frame_seq"] for row in rows_of(reader.read(0))]
    assert sorted(firsts.values()) == list(range(0, 120, 2))
    assert all(numbers[first : first + 2] == [n, n] for n, first in firsts.items())


_ROWS = st.lists(
    st.builds(
        record,
        st.integers(0, 2**40),
        kind=st.sampled_from(["data", "control", "clock"]),
        symbol=st.text(max_size=5),
        ts_recv=st.integers(-(2**63), 2**63 - 1),
        payload=st.binary(max_size=40),
        envelope=st.none() | st.binary(max_size=9),
    ),
    max_size=40,
)


@pytest.mark.parametrize("maker", MAKERS)
@given(
    rows=_ROWS, cuts=st.lists(st.integers(0, 40)), start=st.integers(0, 40), size=st.integers(1, 50)
)
def test_any_split_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    maker: str,
    rows: list[dict[str, Any]],
    cuts: list[int],
    start: int,
    size: int,
) -> None:
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    offset = min(start, len(rows))
    with MAKERS[maker](tmp_path_factory.mktemp("split")) as journal:
        for low, high in pairwise(edges):
            assert journal.append(batch(rows[low:high])) == low
        with closing(journal.reader()) as reader:
            wanted = expected(rows, "alpaca")
            assert rows_of(reader.read(offset, size)) == wanted[offset:]
            for kind in ("data", "control", "clock"):
                of_kind = [row["offset"] for row in wanted if row["kind"] == kind]
                assert reader.last(kind) == (of_kind[-1] if of_kind else None)
