"""Feed runs, loads and rebuilds in turn, all killed: they end as the same work that never was."""

import random  # noqa: TID251
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest

import mixedkit
from crashkit import Forge, Kept, differences
from marketpipe.pipelines.restate import IDENTITY
from mixedkit import Step, ended, in_store, left_to_rebuild, steps

SEED = 20260107
HISTORIES = 12

SLICE: tuple[tuple[tuple[str, int], ...], ...] = (
    (("bars:after", 2), ("checkpoint:before", 1)),
    (("lines:after", 2), ("store:after", 1)),
    (("store:after", 1),),
    (("compaction:file", 2),),
    (("ticks:after", 2), ("bars:after", 1)),
    (("journal:after", 1),),
    (("store:after", 1), ("retain:after", 1)),
    (),
    (("bars:after", 1),),
)
"""Where each step is killed in the slice that always runs."""


@dataclass(frozen=True)
class Plain:
    """A history without a fault: what it left, and of each step its boundaries and its seconds."""

    folder: Path
    steps: list[Step]
    kept: Kept
    passed: list[tuple[str, ...]]
    seconds: list[float]


@pytest.fixture(scope="module")
def mixed() -> Iterator[Forge]:
    """Forks the steps of histories."""
    with Forge(mixedkit.__file__) as made:
        yield made


@pytest.fixture(scope="module")
def plain(mixed: Forge, tmp_path_factory: pytest.TempPathFactory) -> Plain:
    """A history that is never killed."""
    folder = tmp_path_factory.mktemp("mixed")
    work, passed, seconds = steps(folder), [], list[float]()
    for step in placed(work, folder / "plain"):
        began = time.monotonic()
        passed.append(mixed.finish(step).passed)
        seconds.append(time.monotonic() - began)
    return Plain(folder / "plain", work, ended(folder / "plain"), passed, seconds)


def placed(work: list[Step], folder: Path) -> list[Step]:
    """Return steps that work in a folder."""
    return [replace(step, folder=str(folder)) for step in work]


def assert_same(folder: Path, plain: Plain) -> None:
    """Compare what a history left with what the one that was never killed left."""
    assert differences(ended(folder), plain.kept) == []
    bars = len(plain.kept.tables["bars"])
    assert in_store(folder) == (plain.kept.root, plain.kept.history_root, bars)


def assert_known_in_order(bars: pl.DataFrame) -> None:
    """Refuse a revision that was known before the one that it follows."""
    known = bars.sort("revision").group_by(IDENTITY).agg("known_at", "recorded_at")
    for name in ("known_at", "recorded_at"):
        in_order = pl.element().diff().drop_nulls() >= 0
        assert known[name].list.eval(in_order).list.all().all(), name


def killed_somewhere(mixed: Forge, plain: Plain, folder: Path, rng: random.Random) -> int:
    """Do a history whose steps are killed at up to two of their boundaries; return how often."""
    kills = 0
    for step, passed in zip(placed(plain.steps, folder), plain.passed, strict=True):
        for _ in range(rng.randrange(1, 3) if passed else 0):
            n = rng.randrange(len(passed))
            kill = passed[n], passed[: n + 1].count(passed[n])
            end = mixed.live(replace(step, kill_at=kill))
            assert end.status in (0, -signal.SIGKILL), end.error
            kills += end.status < 0
        mixed.finish(step)
    return kills


def killed_sometime(mixed: Forge, plain: Plain, folder: Path, rng: random.Random) -> int:
    """Do a history whose steps are killed at random moments, thrice at most; return how often."""
    kills = 0
    for step, seconds in zip(placed(plain.steps, folder), plain.seconds, strict=True):
        for _ in range(rng.randrange(1, 4)):
            end = mixed.live(replace(step, kill_after=rng.uniform(0.01, seconds)))
            assert end.status in (0, -signal.SIGKILL), end.error
            kills += end.status < 0
        mixed.finish(step)
    return kills


def test_history_has_every_kind_of_work_to_do(plain: Plain) -> None:
    bars = plain.kept.tables["bars"]
    causes = {"first", "late", "cancel", "correction", "backfill", "rebuild"}
    assert set(bars["cause"]) == causes
    assert "late_after_load" in {code for _, code, *_ in plain.kept.findings}
    assert "restated" in set(plain.kept.tables["corrections"]["action"])
    feeds = [n for n, step in enumerate(plain.steps) if step.does == "feed"]
    assert all("compaction:after" in plain.passed[n] for n in feeds)
    # a file that is loaded again is known
    assert [n for n, passed in enumerate(plain.passed) if not passed] == [7]


def test_history_left_nothing_to_rebuild(plain: Plain) -> None:
    assert not left_to_rebuild(placed(plain.steps, plain.folder)[-1])


def test_history_killed_at_boundaries_ends_as_if_it_never_was(
    mixed: Forge, plain: Plain, tmp_path: Path
) -> None:
    for step, kills in zip(placed(plain.steps, tmp_path), SLICE, strict=True):
        for kill in kills:
            assert mixed.live(replace(step, kill_at=kill)).status == -signal.SIGKILL, (step, kill)
        mixed.finish(step)
    assert_same(tmp_path, plain)


def test_load_that_broke_off_is_known_after_the_feed_that_went_on(
    mixed: Forge, plain: Plain, tmp_path: Path
) -> None:
    first, load, _, then, *_ = placed(plain.steps, tmp_path)
    mixed.finish(first)
    assert mixed.live(replace(load, kill_at=("journal:before", 1))).status == -signal.SIGKILL
    mixed.finish(then)
    mixed.finish(load)
    assert_known_in_order(ended(tmp_path).tables["bars"])


# -- in full -------------------------------------------------------------------------------------


LOADING = (
    *(("journal:before", 1), ("lines:after", 2), ("journal:after", 1), ("ticks:after", 2)),
    *(("store:after", 1), ("bars:after", 2), ("loaded:after", 1)),
)
FEED_FIRST = (0, 1, 3, 1, 2, 4, 6, 4, 5, 7, 8)
"""Order of steps in which each load breaks off, and is done again after the feed went on."""

KINDS = {"at boundaries": killed_somewhere, "at random moments": killed_sometime}


@pytest.mark.torture
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("kind", KINDS)
def test_histories_killed_end_as_if_they_never_were(
    mixed: Forge, plain: Plain, tmp_path: Path, figures: dict[str, str], kind: str
) -> None:
    rng = random.Random(SEED + 1)
    kills = 0
    for number in range(HISTORIES):
        folder = tmp_path / str(number)
        kills += KINDS[kind](mixed, plain, folder, rng)
        assert_same(folder, plain)
        shutil.rmtree(folder)
    figures[f"feed runs, loads and rebuilds in turn, killed {kind}"] = (
        f"seed {SEED + 1}: {kills} kills in {HISTORIES} histories of {len(plain.steps)} steps, "
        "0 differences"
    )


@pytest.mark.torture
@pytest.mark.timeout(7_200)
def test_feed_that_goes_on_before_a_broken_load_ends_with_the_same_bars(
    mixed: Forge, plain: Plain, tmp_path: Path, figures: dict[str, str]
) -> None:
    for kill in LOADING:
        folder = tmp_path / kill[0]
        begun: set[int] = set()
        for n in FEED_FIRST:
            step = replace(plain.steps[n], folder=str(folder))
            if step.does == "load" and n != FEED_FIRST[-2] and n not in begun:
                begun.add(n)
                assert mixed.live(replace(step, kill_at=kill)).status == -signal.SIGKILL, kill
            else:
                mixed.finish(step)
        found = ended(folder)
        # which revisions led there depends on what was known when
        assert (found.root, left_to_rebuild(step)) == (plain.kept.root, False)
        assert in_store(folder) == (found.root, found.history_root, len(found.tables["bars"]))
        assert_known_in_order(found.tables["bars"])
        shutil.rmtree(folder)
    figures["loads that break off, then feed, then loads again"] = (
        f"{2 * len(LOADING)} kills in {len(LOADING)} histories, 0 different bars"
    )
