"""When a feed was connected, and which intervals that covers."""

import json

import numpy as np
import pytest

from marketpipe.pipelines.connectivity import Connectivity, merged

FIRST, SECOND = (100, 1), (200, 2)


def partial(feed: Connectivity, *intervals: tuple[int, int]) -> list[bool]:
    """Say of intervals [from, to) which were not covered."""
    opens, closes = (np.array(column, np.int64) for column in zip(*intervals, strict=True))
    found: list[bool] = feed.partial(opens, closes).tolist()
    return found


def test_partial_without_any_connection_is_everything() -> None:
    assert partial(Connectivity(), (0, 10), (5, 6)) == [True, True]


def test_partial_takes_the_connect_as_inclusive_and_the_disconnect_as_exclusive() -> None:
    feed = Connectivity()
    feed.connected(FIRST, 10)
    feed.disconnected(FIRST, 20)
    assert partial(feed, (10, 20), (9, 20), (10, 21), (12, 15)) == [False, True, True, False]


def test_partial_of_an_open_connection_covers_what_comes() -> None:
    feed = Connectivity()
    feed.connected(FIRST, 10)
    assert partial(feed, (10, 10**18), (0, 11)) == [False, True]


def test_partial_of_overlapping_connections_is_covered_across_both() -> None:
    feed = Connectivity()
    feed.connected(FIRST, 10)
    feed.connected(SECOND, 18)
    feed.disconnected(FIRST, 20)
    feed.disconnected(SECOND, 30)
    assert partial(feed, (10, 30), (19, 21), (29, 31)) == [False, False, True]


def test_partial_of_a_gap_between_connections_is_not_covered() -> None:
    feed = Connectivity()
    feed.connected(FIRST, 10)
    feed.disconnected(FIRST, 20)
    feed.connected(SECOND, 21)
    assert partial(feed, (15, 25), (21, 25)) == [True, False]


def test_connected_twice_keeps_the_first_time() -> None:
    feed = Connectivity()
    feed.connected(FIRST, 10)
    feed.connected(FIRST, 15)
    assert partial(feed, (10, 12)) == [False]


def test_disconnected_unknown_connection_changes_nothing() -> None:
    feed = Connectivity()
    feed.disconnected(FIRST, 10)
    assert partial(feed, (0, 10)) == [True]


def test_lost_ends_every_connection() -> None:
    feed = Connectivity()
    feed.connected(FIRST, 10)
    feed.connected(SECOND, 12)
    feed.lost(20)
    assert partial(feed, (10, 20), (10, 21)) == [False, True]


def test_partial_is_what_is_not_known_to_have_come_though_the_connection_was_up() -> None:
    feed = Connectivity()
    feed.hear({"event": "connected"}, FIRST, 10)
    feed.hear({"event": "stalled", "good_until_ns": 20}, FIRST, 30)
    feed.hear({"event": "disconnected", "good_until_ns": 40}, FIRST, 50)
    feed.hear({"event": "connected"}, SECOND, 60)
    feed.hear({"event": "disconnected", "good_until_ns": None}, SECOND, 70)
    wanted = {(10, 20): False, (19, 21): True, (29, 31): True, (30, 40): False, (39, 41): True}
    wanted |= {(60, 70): False, (69, 71): True}
    assert partial(feed, *wanted) == list(wanted.values())


def test_save_and_load_through_json_goes_on_alike() -> None:
    feed = Connectivity()
    feed.connected(FIRST, 10)
    feed.disconnected(FIRST, 20)
    feed.connected(SECOND, 30)
    again = Connectivity.load(json.loads(json.dumps(feed.save())))
    for one in (feed, again):
        one.disconnected(SECOND, 40)
    assert partial(again, (10, 20), (30, 40), (20, 30)) == [False, False, True]
    assert again.save() == Connectivity.load(feed.save()).save()


@pytest.mark.parametrize(("told", "wanted"), [({"good_until_ns": 15}, True), ({}, False)])
def test_start_after_a_kill_ends_connections_where_all_had_come(
    told: dict[str, int], wanted: bool
) -> None:
    feed = Connectivity()
    feed.connected(FIRST, 10)
    feed.hear({"event": "started", **told}, SECOND, 40)
    feed.connected(SECOND, 41)
    assert partial(feed, (10, 15), (14, 16), (40, 42), (41, 50)) == [False, wanted, True, False]


@pytest.mark.parametrize(
    ("spans", "wanted"),
    [
        ([], []),
        ([(5, 9), (1, 3)], [(1, 3), (5, 9)]),
        ([(1, 5), (5, 9)], [(1, 9)]),
        ([(1, 9), (2, 3)], [(1, 9)]),
    ],
)
def test_merged_joins_what_touches(
    spans: list[tuple[int, int]], wanted: list[tuple[int, int]]
) -> None:
    assert merged(spans) == wanted
