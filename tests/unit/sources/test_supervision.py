"""Pauses and silence, judged by times that the test gives."""

from random import Random  # noqa: TID251  # the source of jitter that a backoff is given

from marketpipe.sources.supervision import Backoff, Watchdog

SECOND = 1_000_000_000


def test_backoff_ceiling_doubles_up_to_the_cap_and_reset_begins_anew() -> None:
    backoff = Backoff(Random(1), base_seconds=0.5, cap_seconds=10)
    ceilings = []
    for _ in range(7):
        ceilings.append(backoff.ceiling())
        assert 0 <= backoff.pause() <= ceilings[-1]
    assert ceilings == [0.5, 1, 2, 4, 8, 10, 10]
    assert backoff.attempt == 7
    backoff.reset()
    assert (backoff.attempt, backoff.ceiling()) == (0, 0.5)


def test_backoff_pauses_are_spread_over_all_that_is_allowed() -> None:
    backoff = Backoff(Random(2), base_seconds=8, cap_seconds=8)
    pauses = sorted(backoff.pause() for _ in range(1000))
    # Full jitter: a quarter of the pauses lies in each quarter of what is allowed.
    for quarter in range(4):
        inside = sum(2 * quarter <= pause < 2 * quarter + 2 for pause in pauses)
        assert 200 < inside < 300


def test_backoff_of_a_long_outage_stays_a_number() -> None:
    backoff = Backoff(Random(3))
    for _ in range(5000):
        assert backoff.pause() <= 60


def watched(**options: float) -> Watchdog:
    dog = Watchdog(**options)
    dog.begin(0)
    return dog


def test_watchdog_of_a_new_feed_waits_for_the_floor() -> None:
    dog = watched(floor_seconds=30)
    assert dog.overdue(30 * SECOND - 1) == ()
    assert dog.overdue(30 * SECOND) == ("",)
    assert dog.is_mute(30 * SECOND)


def test_watchdog_learns_what_each_channel_is_used_to() -> None:
    dog = watched(floor_seconds=30, patience=8)
    for second in range(1, 601):
        dog.hear(["trades"], second * SECOND)
        if second % 60 == 0:
            dog.hear(["bars"], second * SECOND)
    # Trades come every second, so the floor holds; bars every minute, so eight minutes do.
    assert dog.limit_ns("trades") == 30 * SECOND
    assert dog.limit_ns("bars") == 480 * SECOND
    assert dog.overdue(629 * SECOND) == ()
    assert dog.overdue(630 * SECOND) == ("trades",)
    assert dog.overdue(1080 * SECOND) == ("trades", "bars")


def test_watchdog_calls_a_feed_mute_only_if_nothing_at_all_is_heard() -> None:
    dog = watched(floor_seconds=30)
    dog.hear(["trades", "quotes"], SECOND)
    dog.hear(["quotes"], 31 * SECOND)
    assert dog.overdue(31 * SECOND) == ("trades",)
    assert not dog.is_mute(31 * SECOND)
    assert dog.is_mute(61 * SECOND)


def test_watchdog_waits_twice_as_long_after_each_vain_reconnection() -> None:
    dog = watched(floor_seconds=30, ceiling_seconds=100)
    limits = []
    for _ in range(4):
        limits.append(dog.limit_ns("") // SECOND)
        dog.give_up()
        dog.begin(0)
    assert limits == [30, 60, 100, 100]
    dog.hear(["trades"], SECOND)
    assert dog.limit_ns("trades") == 30 * SECOND


def test_watchdog_counts_from_the_moment_of_an_excuse() -> None:
    dog = watched(floor_seconds=30)
    dog.hear(["trades"], SECOND)
    dog.excuse(31 * SECOND)
    assert dog.overdue(60 * SECOND) == ()
    assert dog.overdue(61 * SECOND) == ("trades",)


def test_watchdog_remembers_over_connections_but_counts_each_anew() -> None:
    dog = watched(floor_seconds=30)
    dog.hear(["bars"], 60 * SECOND)
    dog.begin(1000 * SECOND)
    assert dog.overdue(1000 * SECOND + 479 * SECOND) == ()
    assert dog.overdue(1000 * SECOND + 480 * SECOND) == ("bars",)


def test_watchdog_takes_a_burst_of_messages_for_one() -> None:
    dog = Watchdog(floor_seconds=30)
    dog.begin(0)
    for minute in range(1, 6):
        for symbol in range(10):
            dog.hear(["bars"], (minute * 60 * 1000 + symbol) * 1_000_000)
    assert dog.overdue(7 * 60 * 10**9) == ()
    assert dog.overdue(20 * 60 * 10**9) == ("bars",)
