"""Digest tree: what it covers, and how it names a difference."""

import hashlib
import struct
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from marketpipe.domain.schemas import BARS
from marketpipe.errors import InputError
from marketpipe.verify import DigestTree, LeafPath, first_difference

MakeBars = Callable[..., pa.Table]
MINUTE = 60_000_000_000
OPEN_NS = 1_767_623_400_000_000_000


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def node(*children: tuple[bytes, bytes]) -> bytes:
    content = b"marketpipe.bars.node.1\0" + struct.pack("<Q", len(children))
    for name, child in children:
        content += struct.pack("<I", len(name)) + name + child
    return hashlib.sha256(content).digest()


def root(bars: pa.Table, **options: Any) -> str:
    return DigestTree.build(bars, **options).root


def test_root_of_one_bar_follows_the_documented_encoding(make_bars: MakeBars) -> None:
    nulls = 1 << 8 | 1 << 9  # official_open, official_close
    bar = struct.pack("<qqQ", OPEN_NS, OPEN_NS + MINUTE, nulls)
    bar += struct.pack("<qqqq", 189_370000000, 190_000000000, 189_000000001, 189_500000000)
    bar += (1200 * 10**9).to_bytes(16, "little")
    bar += (227244 * 10**18 + 1).to_bytes(16, "little")
    bar += struct.pack("<qqqq", 189_370000000, 12, 0, 0)
    leaf = hashlib.sha256(b"marketpipe.bars.leaf.1\0" + struct.pack("<Q", 1) + bar).digest()
    series = b"".join(
        text(part) for part in ("csv", "file", "AAPL", "trade", "plain", "continuous")
    )
    expected = node((series, node((b"1m", node((b"2026-01-05", leaf))))))
    tree = DigestTree.build(make_bars({}))
    assert tree.root == f"sha256:{expected.hex()}"
    assert list(tree.leaves.values()) == [leaf.hex()]


def test_history_leaf_follows_the_documented_encoding(make_bars: MakeBars) -> None:
    columns = ("open", "high", "low", "close", "volume", "notional", "vwap")
    row = {**dict.fromkeys(columns), "trade_count": 0, "coverage": "void", "cause": "cancel"}
    bar = struct.pack("<qqQ", OPEN_NS, OPEN_NS + MINUTE, 0b1101111111) + bytes(96)
    bar += struct.pack("<qq", 3, 77)
    bar += b"".join(word.ljust(12, b"\0") for word in (b"cancel", b"confirmed", b"void"))
    bar += struct.pack("<I", 1)
    leaf = hashlib.sha256(
        b"marketpipe.bars.history-leaf.1\0" + struct.pack("<Q", 1) + bar
    ).hexdigest()
    bars = make_bars({**row, "revision": 3, "known_at": 77, "partial": True})
    assert list(DigestTree.build(bars, history=True).leaves.values()) == [leaf]


def test_root_of_no_bars_is_the_empty_node(make_bars: MakeBars) -> None:
    assert root(make_bars()) == f"sha256:{node().hex()}"
    assert root(make_bars({"state": "forming"})) == root(make_bars())


def test_root_ignores_row_order_chunking_and_slices(make_bars: MakeBars) -> None:
    rows = [
        {"symbol": symbol, "ts_open": OPEN_NS + i * MINUTE, "timeframe": timeframe}
        for symbol in ("AAPL", "MSFT")
        for timeframe in ("1m", "5m")
        for i in range(5)
    ]
    bars = make_bars(*rows)
    shuffled = make_bars(*rows[7:], *rows[:7][::-1])
    chunked = pa.concat_tables([bars.slice(11), bars.slice(0, 4), bars.slice(4, 7)])
    padded = make_bars({"ts_open": 0}, *rows, {"ts_open": 60}).slice(1, len(rows))
    assert root(bars) == root(shuffled) == root(chunked) == root(padded)


@pytest.mark.parametrize(
    "change",
    [
        {"source": "other"},
        {"feed": "other"},
        {"symbol": "MSFT"},
        {"price_type": "mid"},
        {"rule_set": "alpaca-v1"},
        {"session": "regular"},
        {"timeframe": "5m"},
        {"session_date": date(2026, 1, 6)},
        {"ts_open": OPEN_NS + 1, "ts_close": OPEN_NS + MINUTE},
        {"ts_close": OPEN_NS + 1},
        {"open": Decimal("189.370000001")},
        {"high": Decimal(191)},
        {"low": Decimal("-1")},
        {"close": Decimal("189.4")},
        {"volume": Decimal("1200.000000001")},
        {"volume": None},
        {"notional": Decimal("227244.000000000000000002")},
        {"notional": Decimal("22724400000000000000")},
        {"vwap": None},
        {"trade_count": 13},
        {"official_open": Decimal(0)},
        {"official_close": Decimal("189.5")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_root_changes_with_the_series_and_every_value(
    make_bars: MakeBars, change: dict[str, Any]
) -> None:
    assert root(make_bars(change)) != root(make_bars({}))


@pytest.mark.parametrize(
    "change",
    [
        {"revision": 1},
        {"cause": "late"},
        {"known_at": OPEN_NS},
        {"state": "settled"},
        {"partial": True},
        {"coverage": "gap"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_history_root_alone_changes_with_how_a_bar_came_about(
    make_bars: MakeBars, change: dict[str, Any]
) -> None:
    changed, plain = make_bars(change), make_bars({})
    assert root(changed) == root(plain)
    assert root(changed, history=True) != root(plain, history=True)


def test_roots_ignore_the_time_of_recording(make_bars: MakeBars) -> None:
    recorded, plain = make_bars({"recorded_at": 5}), make_bars({})
    assert root(recorded, history=True) == root(plain, history=True)


def test_root_sees_the_latest_revision_and_no_void_bar(make_bars: MakeBars) -> None:
    later = {"ts_open": OPEN_NS + MINUTE}
    void = {**dict.fromkeys(("open", "high", "low", "close")), "coverage": "void"}
    bars = make_bars(
        {"close": Decimal(1)}, {"revision": 1}, later, {**later, **void, "revision": 1}
    )
    assert root(bars) == root(make_bars({}))
    assert root(bars, history=True) != root(make_bars({}), history=True)


def test_root_up_to_a_watermark_takes_bars_closed_by_then(make_bars: MakeBars) -> None:
    bars = make_bars({}, {"ts_open": OPEN_NS + MINUTE})
    assert root(bars, up_to_ns=OPEN_NS + MINUTE) == root(make_bars({}))
    assert root(bars, up_to_ns=OPEN_NS + MINUTE - 1) == root(make_bars())
    assert root(bars, up_to_ns=OPEN_NS + 2 * MINUTE) == root(bars)


def test_diff_names_leaves_that_differ_or_are_missing(make_bars: MakeBars) -> None:
    first = make_bars({}, {"timeframe": "5m"}, {"timeframe": "15m"}, {"symbol": "MSFT"})
    second = make_bars(
        {}, {"timeframe": "5m", "close": Decimal("189.1")}, {"timeframe": "15m", "trade_count": 1}
    )
    paths = DigestTree.build(first).diff(DigestTree.build(second))
    assert [(p.symbol, p.timeframe) for p in paths] == [
        ("AAPL", "5m"),
        ("AAPL", "15m"),
        ("MSFT", "1m"),
    ]
    assert isinstance(paths[0], LeafPath)
    assert str(paths[0]) == "AAPL csv file trade plain continuous 5m 2026-01-05"


def test_first_difference_names_bar_field_and_values(make_bars: MakeBars) -> None:
    later = {"ts_open": OPEN_NS + MINUTE}
    found = first_difference(
        make_bars({}, later), make_bars({}, {**later, "low": Decimal("188.9")})
    )
    assert found is not None
    assert (found.ts_open, found.field) == (OPEN_NS + MINUTE, "low")
    assert (found.first, found.second) == (Decimal("189.000000001"), Decimal("188.9"))
    assert "low was" in str(found)


def test_first_difference_names_a_bar_that_one_side_lacks(make_bars: MakeBars) -> None:
    found = first_difference(make_bars({}), make_bars({}, {"ts_open": OPEN_NS - MINUTE}))
    assert found is not None
    assert (found.ts_open, found.field, found.first) == (OPEN_NS - MINUTE, "bar", None)
    assert "close=189.5" in str(found.second)


def test_first_difference_of_history_names_the_revision(make_bars: MakeBars) -> None:
    late = {"revision": 1, "cause": "late"}
    first, second = make_bars({}, late), make_bars({}, {**late, "cause": "backfill"})
    assert first_difference(first, second) is None
    found = first_difference(first, second, history=True)
    assert found is not None
    assert (found.revision, found.field, found.second) == (1, "cause", "backfill")


def test_tree_of_a_leaf_torn_in_time_is_refused(make_bars: MakeBars) -> None:
    bars = make_bars(
        {},
        {"ts_open": OPEN_NS + MINUTE, "session_date": date(2026, 1, 6)},
        {"ts_open": OPEN_NS + 2 * MINUTE},
    )
    with pytest.raises(InputError, match="lie together"):
        DigestTree.build(bars)


def test_tree_of_an_overlong_word_is_refused(make_bars: MakeBars) -> None:
    with pytest.raises(InputError, match="12 bytes"):
        DigestTree.build(make_bars({"cause": "thirteen-long"}), history=True)


def test_tree_of_a_null_count_is_refused(make_bars: MakeBars) -> None:
    bars = make_bars({})
    for field in ("trade_count", BARS.field("trade_count")):
        nulls = bars.set_column(17, field, pa.nulls(1, pa.int64()))
        with pytest.raises(InputError, match=r"trade_count.* null"):
            DigestTree.build(nulls)
