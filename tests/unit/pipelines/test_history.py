"""The trades of a pipeline so far: from the lake below a base, from memory above it."""

import pyarrow as pa
import pyarrow.compute as pc

from livekit import OPEN_NS, derive_settings, derived, framed, numbered, trade
from marketpipe.domain.batches import StreamKey
from marketpipe.domain.units import NANOS
from marketpipe.pipelines.history import TradeHistory, Wanted, no_lake, session_ids

AAPL, MSFT = (StreamKey("alpaca", "sip", symbol) for symbol in ("AAPL", "MSFT"))
DATE = OPEN_NS // (86_400 * NANOS)
NEXT_NS = OPEN_NS + 86_400 * NANOS


def canonical() -> pa.Table:
    """Four trades at offsets 1 to 4: AAPL, MSFT, AAPL, and AAPL of the next day."""
    prints = [
        trade(7, OPEN_NS, "10"),
        trade(7, OPEN_NS, "20", symbol="MSFT"),
        trade(8, OPEN_NS + 1, "11", venue="Q"),
        trade(7, NEXT_NS, "12"),
    ]
    feed = [*((NEXT_NS, message) for message in prints), (NEXT_NS + NANOS, None)]
    table: pa.Table = derived(derive_settings(), numbered(framed(feed))).tables["trades"]
    assert table["offset"].to_pylist() == [1, 2, 3, 4]
    return table


class Lake:
    """A lake that notes what it is asked for."""

    def __init__(self, trades: pa.Table) -> None:
        self.trades, self.asked = trades, list[Wanted]()

    def __call__(self, wanted: Wanted) -> pa.Table:
        self.asked.append(wanted)
        rows = self.trades.filter(pc.field("offset") < wanted.before_offset)
        if wanted.stream is not None:
            rows = rows.filter(pc.field("symbol") == wanted.stream.symbol)
        days = pc.cast(rows["session_date"], pa.int32())
        kept = pc.and_(
            pc.greater_equal(days, wanted.first_date), pc.less_equal(days, wanted.last_date)
        )
        # a lake gives rows in no order
        return rows.filter(kept).sort_by([("offset", "descending")])


def offsets(table: pa.Table) -> list[int]:
    found: list[int] = table["offset"].to_pylist()
    return found


def test_trades_of_memory_are_of_one_stream_and_of_the_dates_asked_for() -> None:
    history = TradeHistory(no_lake, 0)
    history.extend(canonical())
    assert offsets(history.trades(AAPL, (DATE, DATE), before_offset=99)) == [1, 3]
    assert offsets(history.trades(AAPL, (DATE, DATE + 1), before_offset=99)) == [1, 3, 4]
    assert offsets(history.trades(MSFT, (DATE, DATE), before_offset=99)) == [2]


def test_trades_stop_before_an_offset() -> None:
    history = TradeHistory(no_lake, 0)
    history.extend(canonical())
    assert offsets(history.trades(AAPL, (DATE, DATE + 1), before_offset=3)) == [1]


def test_trades_join_lake_and_memory_in_order_of_offsets() -> None:
    lake = Lake(canonical())
    history = TradeHistory(lake, 3)
    history.extend(canonical().slice(2))
    assert offsets(history.trades(AAPL, (DATE, DATE + 1), before_offset=99)) == [1, 3, 4]
    assert lake.asked[0].before_offset == 3


def test_trades_beyond_the_base_are_not_read_from_the_lake() -> None:
    """After a crash the lake may have more than the checkpoint: that is derived once more."""
    history = TradeHistory(Lake(canonical()), 2)
    assert offsets(history.trades(AAPL, (DATE, DATE + 1), before_offset=99)) == [1]


def test_flushed_moves_trades_from_memory_to_the_lake() -> None:
    history = TradeHistory(Lake(canonical()), 0)
    history.extend(canonical())
    history.flushed(3)
    assert offsets(history.trades(AAPL, (DATE, DATE + 1), before_offset=99)) == [1, 3, 4]


def test_extend_shows_in_what_was_asked_for_before() -> None:
    history = TradeHistory(no_lake, 0)
    history.extend(canonical().slice(0, 2))
    assert offsets(history.trades(AAPL, (DATE, DATE), before_offset=99)) == [1]
    history.extend(canonical().slice(2))
    assert offsets(history.trades(AAPL, (DATE, DATE), before_offset=99)) == [1, 3]


def test_lake_is_read_once_for_the_same_question() -> None:
    lake = Lake(canonical())
    history = TradeHistory(lake, 5)
    for before in (2, 4, 99):
        history.trades(AAPL, (DATE, DATE), before_offset=before)
    assert len(lake.asked) == 1


def test_ids_are_those_of_one_date_with_their_scopes() -> None:
    history = TradeHistory(Lake(canonical()), 2)
    history.extend(canonical().slice(1))
    found = history.ids(DATE, before_offset=99)
    scopes = [(found.scopes[code].stream.symbol, found.scopes[code].venue) for code in found.scope]
    assert found.date == DATE
    assert list(zip(scopes, found.id_lo.tolist(), found.row.tolist(), strict=True)) == [
        (("AAPL", "V"), 7, 1),
        (("MSFT", "V"), 7, 2),
        (("AAPL", "Q"), 8, 3),
    ]


def test_ids_of_no_trades_are_none() -> None:
    found = session_ids(DATE, canonical().slice(0, 0))
    assert (found.scopes, len(found.scope), len(found.id_lo)) == ((), 0, 0)
