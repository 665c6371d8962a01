"""DBN files: samples against Databento's own decoder and bars, and files made to be wrong."""

import io
import sys
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import databento_dbn
import pytest
import zstandard
from databento_dbn import UNDEF_PRICE, Metadata, Schema, Side, SType, SystemMsg, TradeMsg

from marketpipe.domain.batches import Batch, QuoteBatch, StreamKey, TradeBatch
from marketpipe.domain.units import NULL_I64
from marketpipe.errors import CorruptError, InputError, UsageError
from marketpipe.sources.base import SourceCounts
from marketpipe.sources.dbn import DbnSource

NOON = 1_767_614_400_000_000_000  # 2026-01-05T12:00:00Z
DAY = 86_400 * 10**9
UNDEF_TS = 2**64 - 1


def header(schema: str = "trades", mappings: dict[str, Any] | None = None) -> bytes:
    spans = {
        "AAPL": [span(date(2026, 1, 5), date(2026, 1, 6), "7")],
        "NEXT": [span(date(2026, 1, 6), date(2026, 1, 7), "7")],
    }
    metadata = Metadata(
        dataset="EQUS.MINI",
        start=NOON,
        stype_in=SType.RAW_SYMBOL,
        stype_out=SType.INSTRUMENT_ID,
        schema=Schema.from_str(schema),
        symbols=list(mappings or spans),
        partial=[],
        not_found=[],
        mappings=[
            SimpleNamespace(raw_symbol=symbol, intervals=intervals)
            for symbol, intervals in (mappings or spans).items()
        ],
    )
    return bytes(metadata.encode())


def span(start: date, end: date, symbol: str) -> Any:
    return SimpleNamespace(start_date=start, end_date=end, symbol=symbol)


def trade(**changes: Any) -> bytes:
    fields = {
        "publisher_id": 95,
        "instrument_id": 7,
        "ts_event": NOON,
        "price": 189_370_000_000,
        "size": 100,
        "action": databento_dbn.Action.TRADE,
        "side": Side.ASK,
        "depth": 0,
        "ts_recv": NOON + 5,
        "ts_in_delta": 0,
        "sequence": 1,
    }
    return bytes(TradeMsg(**{**fields, **changes}))


def read(data: bytes, **options: Any) -> list[Batch]:
    return list(DbnSource(io.BytesIO(data), **options).batches())


def decoded(path: Path) -> list[Any]:
    packed = zstandard.ZstdDecompressor().stream_reader(path.read_bytes(), read_across_frames=True)
    decoder = databento_dbn.DBNDecoder()
    return list(decoder.write_and_decode(packed.read()))[1:]


def test_dbn_trades_are_read() -> None:
    data = header() + trade() + trade(side=Side.BID, ts_event=NOON + 1) + trade(side=Side.NONE)
    source = DbnSource(io.BytesIO(data))
    (batch,) = source.batches()
    assert isinstance(batch, TradeBatch)
    assert batch.dictionaries.streams == (StreamKey("databento", "EQUS.MINI", "AAPL"),)
    assert batch.dictionaries.venues == ("", "95")
    assert batch.price.tolist() == [189_370_000_000] * 3
    assert batch.size.tolist() == [100 * 10**9] * 3
    assert batch.ts_event.tolist() == [NOON, NOON + 1, NOON]
    assert batch.ts_recv is not None
    assert batch.ts_recv.tolist() == [NOON + 5] * 3
    assert batch.side is not None
    assert batch.side.tolist() == [2, 1, 0]
    assert batch.row.tolist() == [1, 2, 3]
    assert batch.id_hi is None
    assert source.describe().endswith("(plain DBN: EQUS.MINI trades, time is ts_event)")
    assert source.counts() == SourceCounts(rows=3)


def test_dbn_time_of_receipt_is_an_option() -> None:
    (batch,) = read(header() + trade(), time="recv")
    assert batch.ts_event.tolist() == [NOON + 5]
    with pytest.raises(UsageError, match="time: was 'soon'; valid are event and recv"):
        read(header(), time="soon")


def test_dbn_instrument_is_the_symbol_of_its_day_or_itself() -> None:
    data = header() + b"".join(
        [trade(), trade(ts_recv=NOON + DAY), trade(ts_recv=NOON + 2 * DAY), trade(instrument_id=8)]
    )
    (batch,) = read(data)
    streams = batch.dictionaries.streams
    assert [streams[code].symbol for code in batch.stream] == ["AAPL", "NEXT", "7", "8"]


def test_dbn_bad_records_are_quarantined() -> None:
    spaced = {"A  B": [span(date(2026, 1, 5), date(2026, 1, 6), "9")]}
    records = [
        trade(price=UNDEF_PRICE),
        trade(price=10**18),
        trade(price=-(10**18) + 1),
        trade(size=10**9),
        trade(ts_event=UNDEF_TS),
        trade(ts_event=2**63),
        bytes(SystemMsg(ts_event=NOON, msg="heartbeat")),
        trade(instrument_id=9),
        trade(ts_recv=UNDEF_TS),
    ]
    source = DbnSource(io.BytesIO(header(mappings=spaced) + b"".join(records)))
    (batch,) = source.batches()
    assert [(bad.row, bad.reason, bad.field) for bad in batch.bad] == [
        (1, "missing_value", "price"),
        (2, "out_of_range", "price"),
        (4, "out_of_range", "size"),
        (5, "missing_value", "ts_event"),
        (6, "out_of_range", "ts_event"),
        (7, "bad_record", "SystemMsg"),
        (8, "bad_symbol", "instrument_id"),
    ]
    assert batch.bad[0].raw == records[0]
    assert batch.row.tolist() == [3, 9]
    assert batch.ts_recv is not None
    assert batch.ts_recv.tolist() == [NOON + 5, NULL_I64]
    assert source.counts() == SourceCounts(rows=2, bad=7)


def test_dbn_symbol_filter_counts_the_others() -> None:
    data = header() + trade() + trade(instrument_id=8, price=UNDEF_PRICE)
    source = DbnSource(io.BytesIO(data), symbols=frozenset({"AAPL"}))
    (batch,) = source.batches()
    assert (batch.row.tolist(), batch.bad) == ([1], ())
    assert source.counts() == SourceCounts(rows=1, filtered=1)


def test_dbn_batches_keep_order_and_dictionaries() -> None:
    data = header() + b"".join(trade(ts_event=NOON + k, instrument_id=k) for k in range(9_000))
    batches = read(data, batch_rows=1_000)
    assert [row for batch in batches for row in batch.row.tolist()] == list(range(1, 9_001))
    last = batches[-1].dictionaries.streams
    shown = [last[code].symbol for batch in batches for code in batch.stream]
    assert shown == ["AAPL" if k == 7 else str(k) for k in range(9_000)]


def test_dbn_without_records_has_no_batches() -> None:
    assert read(header()) == []


@pytest.mark.parametrize("packed", [False, True])
def test_dbn_cut_gives_every_whole_record_then_an_error(packed: bool) -> None:
    data = header() + b"".join(trade() for _ in range(50_000)) + trade()[:20]
    data = zstandard.compress(data) if packed else data
    rows: list[int] = []
    source = DbnSource(io.BytesIO(data))
    with pytest.raises(CorruptError, match=r"ends early, 20 bytes into a record.*50,000 rows"):
        rows.extend(len(batch) for batch in source.batches())
    assert sum(rows) == 50_000


def test_dbn_packed_and_cut_is_a_corrupt_error() -> None:
    data = zstandard.compress(header() + b"".join(trade(sequence=k) for k in range(50_000)))
    with pytest.raises(CorruptError, match="the zstd data ends early"):
        read(data[: len(data) // 2])


@pytest.mark.parametrize(
    "data", [b"", b"DBN", b"symbol,ts_ns,price,size\nA,1,1,1\n", header()[:40], b"PAR1" * 20]
)
def test_file_that_is_no_dbn_is_a_corrupt_error(data: bytes) -> None:
    with pytest.raises(CorruptError, match="DBN"):
        read(data)


@pytest.mark.parametrize("length", [1, 4, 13])
def test_dbn_with_a_record_of_impossible_length_is_a_corrupt_error(length: int) -> None:
    with pytest.raises(CorruptError, match="is not a whole DBN file"):
        read(header() + trade() + bytes([length]) + trade()[1:] + trade())


def test_dbn_without_its_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "databento_dbn", None)
    with pytest.raises(UsageError, match=r"pip install 'marketpipe\[dbn\]'"):
        read(header())


def by_attribute(records: Iterable[Any], name: str) -> list[int]:
    return [int(getattr(record, name)) for record in records]


@pytest.mark.data
@pytest.mark.parametrize("dataset", ["EQUS.MINI", "GLBX.MDP3"])
@pytest.mark.parametrize("schema", ["trades", "tbbo"])
def test_dbn_sample_of_trades_equals_the_decoder(
    market_data: Path, dataset: str, schema: str
) -> None:
    path = market_data / "databento" / dataset / f"test_data.{schema}.dbn.zst"
    records = decoded(path)
    (batch,) = DbnSource(path).batches()
    assert isinstance(batch, TradeBatch)
    assert batch.ts_recv is not None
    assert batch.ts_event.tolist() == by_attribute(records, "ts_event")
    assert batch.ts_recv.tolist() == by_attribute(records, "ts_recv")
    assert batch.price.tolist() == by_attribute(records, "price")
    assert batch.size.tolist() == [size * 10**9 for size in by_attribute(records, "size")]
    symbol = {"EQUS.MINI": "QQQ", "GLBX.MDP3": "ESH1"}[dataset]
    assert batch.dictionaries.streams == (StreamKey("databento", dataset, symbol),)


@pytest.mark.data
@pytest.mark.parametrize("dataset", ["EQUS.MINI", "GLBX.MDP3"])
@pytest.mark.parametrize("schema", ["mbp-1", "bbo-1s", "bbo-1m"])
def test_dbn_sample_of_quotes_equals_the_decoder(
    market_data: Path, dataset: str, schema: str
) -> None:
    path = market_data / "databento" / dataset / f"test_data.{schema}.dbn.zst"
    records = decoded(path)
    time = "ts_event" if schema == "mbp-1" else "ts_recv"
    good = [
        record
        for record in records
        if record.levels[0].bid_px != UNDEF_PRICE or record.levels[0].ask_px != UNDEF_PRICE
    ]
    batches = [batch for batch in DbnSource(path).batches() if isinstance(batch, QuoteBatch)]
    assert [t for batch in batches for t in batch.ts_event.tolist()] == by_attribute(good, time)
    for ours, theirs in (("bid", "bid_px"), ("ask", "ask_px")):
        found = [x for batch in batches for x in getattr(batch, ours).tolist()]
        prices = by_attribute((record.levels[0] for record in good), theirs)
        assert found == [NULL_I64 if price == UNDEF_PRICE else price for price in prices]
    assert sum(len(batch.bad) for batch in batches) == len(records) - len(good)


@pytest.mark.data
def test_dbn_every_other_sample_says_that_it_is_not_ticks(market_data: Path) -> None:
    ticks = ("trades", "tbbo", "mbp-1", "bbo-1s", "bbo-1m")
    others = [
        path
        for path in sorted((market_data / "databento").glob("*/*.dbn.zst"))
        if path.name.split(".")[1] not in ticks
    ]
    assert len(others) == 15
    for path in others:
        schema = "mixed" if path.parent.name == "LIVE" else path.name.split(".")[1]
        with pytest.raises(InputError, match=f"the schema '{schema}' is not ticks; valid are"):
            DbnSource(path)


@pytest.mark.data
def test_dbn_trades_by_receipt_give_the_vendors_second_bars(market_data: Path) -> None:
    folder = market_data / "databento" / "EQUS.MINI"
    (batch,) = DbnSource(folder / "test_data.trades.dbn.zst", time="recv").batches()
    assert isinstance(batch, TradeBatch)
    seconds: dict[int, list[tuple[int, int]]] = {}
    for ts, price, size in zip(
        batch.ts_event.tolist(), batch.price.tolist(), batch.size.tolist(), strict=True
    ):
        seconds.setdefault(ts // 10**9 * 10**9, []).append((price, size))
    bars = {bar.ts_event: bar for bar in decoded(folder / "test_data.ohlcv-1s.dbn.zst")}
    shared = sorted(set(seconds) & set(bars))
    assert len(shared) == len(seconds) == 2
    for second in shared:
        prices = [price for price, _ in seconds[second]]
        volume = sum(size for _, size in seconds[second])
        built = (prices[0], max(prices), min(prices), prices[-1], volume)
        bar = bars[second]
        assert built == (bar.open, bar.high, bar.low, bar.close, bar.volume * 10**9)
