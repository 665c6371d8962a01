"""Pauses and silence, judged by times that the test gives."""

from random import Random  # noqa: TID251  # the source of jitter that a backoff is given

import pytest

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


def heard_until_10() -> Watchdog:
    """Return one that heard trades and quotes in seconds 1 and 10."""
    dog = watched(floor_seconds=30)
    for second in (1, 10):
        dog.hear(["trades", "quotes"], second * SECOND)
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


def test_watchdog_waits_longer_for_a_channel_alone_until_that_is_heard() -> None:
    dog = watched(floor_seconds=30)
    for second in (1, 2):
        dog.hear(["trades", "quotes"], second * SECOND)
    dog.give_up(["quotes"])
    dog.begin(100 * SECOND)
    # What the others say does not make it come back sooner: a channel that never comes would be
    # asked for every half minute.
    dog.hear(["trades"], 101 * SECOND)
    assert (dog.limit_ns("trades"), dog.limit_ns("quotes")) == (30 * SECOND, 60 * SECOND)
    dog.hear(["quotes"], 102 * SECOND)
    assert dog.limit_ns("quotes") == 30 * SECOND


def test_watchdog_expects_channels_that_were_never_heard() -> None:
    dog = watched(floor_seconds=30)
    dog.expect(["trades", "quotes"])
    dog.hear(["trades"], SECOND)
    dog.hear(["trades"], 29 * SECOND)
    assert dog.overdue(29 * SECOND) == ()
    assert dog.overdue(30 * SECOND) == ("quotes",)
    dog.excuse(["quotes"], 30 * SECOND)
    assert dog.overdue(59 * SECOND) == ()
    assert dog.overdue(60 * SECOND) == ("quotes",)


def test_watchdog_counts_from_the_moment_of_an_excuse() -> None:
    dog = watched(floor_seconds=30)
    dog.hear(["trades"], SECOND)
    dog.excuse(["trades"], 31 * SECOND)
    assert dog.overdue(60 * SECOND) == ()
    assert dog.overdue(61 * SECOND) == ("trades",)


def test_watchdog_that_nobody_answers_is_not_deceived_by_channels_that_fall_silent_apart() -> None:
    dog = heard_until_10()
    dog.hear(["quotes"], 25 * SECOND)
    assert dog.overdue(40 * SECOND) == ("trades",)
    assert not dog.is_mute(40 * SECOND)
    dog.put_off(["trades"], 40 * SECOND, answered=False)
    # Trades are not asked about again at once, and that counts for nothing that was heard.
    assert dog.overdue(54 * SECOND) == ()
    assert dog.overdue(55 * SECOND) == ("quotes",)
    assert dog.is_mute(55 * SECOND)


@pytest.mark.parametrize(("answered", "again_s"), [(True, 180), (False, 130)])
def test_watchdog_asks_again_soon_where_nobody_answered(answered: bool, again_s: int) -> None:
    dog = Watchdog()
    dog.begin(0)
    dog.hear(["trades"], 10 * SECOND)
    dog.hear(["trades"], 20 * SECOND)
    assert dog.overdue(100 * SECOND) == ("trades",)
    dog.put_off(["trades"], 100 * SECOND, answered=answered)
    assert dog.overdue(again_s * SECOND - 1) == ()
    assert dog.overdue(again_s * SECOND) == ("trades",)


def test_watchdog_takes_what_the_vendor_told_for_a_sign_of_life() -> None:
    dog = heard_until_10()
    dog.excuse(["trades"], 40 * SECOND)
    assert dog.overdue(41 * SECOND) == ("quotes",)
    assert not dog.is_mute(69 * SECOND)
    assert dog.is_mute(70 * SECOND)


def test_watchdog_learns_nothing_of_excuses_and_little_of_a_night() -> None:
    dog = watched(floor_seconds=30)
    for minute in range(1, 11):
        dog.hear(["bars"], minute * 60 * SECOND)
        dog.excuse(["bars"], (minute * 60 + 30) * SECOND)
    assert dog.limit_ns("bars") == 480 * SECOND
    dog.hear(["bars"], (600 + 8 * 3600) * SECOND)
    # A gap counts for no more than was waited for: 60 + (480 - 60) / 8 seconds, eight times.
    assert dog.limit_ns("bars") == 900 * SECOND


def test_watchdog_tells_which_channels_others_outlived() -> None:
    dog = watched(floor_seconds=30)
    channels = ("trades", "quotes", "bars")
    for second in range(0, 20, 4):
        dog.hear(["trades", "quotes"], second * SECOND)
    dog.hear(["trades"], 22 * SECOND)
    # All are silent after that, which is no sign: the connection is lost, perhaps for long.
    assert dog.outlived(channels) == ()
    average = 1 + 3 * (1 - (7 / 8) ** 4)
    dog.hear(["trades"], int((16 + 3 * average) * SECOND) + 1)
    assert dog.outlived(channels) == ("quotes",)
    # Bars were never heard: they did not fall silent, however long it is.
    dog.hear(["trades"], 300 * SECOND)
    assert dog.outlived(channels) == ("quotes",)
    dog.excuse(["quotes"], 299 * SECOND)
    assert dog.outlived(channels) == ()


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
