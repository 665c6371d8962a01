"""Pipelines that are killed with SIGKILL and restarted end with what one has that never was."""

import random  # noqa: TID251
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from crashkit import (
    BOUNDARIES,
    End,
    Forge,
    Kept,
    Life,
    differences,
    kept,
    occurrences,
    reference,
)
from livekit import FAULTY, OPEN_NS, records, week
from marketpipe.domain.units import DAY_NS

SEED = 20260105
SLICE_LIVES = 10
RANDOM_KILLS = 200

Reference = tuple[Life, Kept, End]
Kill = tuple[str, int]


def slice_of_kills() -> list[tuple[Kill, Kill]]:
    """Draw lives of two kills each, the second in the recovery; every boundary occurs."""
    rng = random.Random(SEED)
    late = ("checkpoint:after", "retain:after", "checkpoint:before")
    names = [name for name in BOUNDARIES if name not in late]
    names += rng.sample(names, 2 * SLICE_LIVES - len(BOUNDARIES))
    rng.shuffle(names)
    firsts, seconds = names[:SLICE_LIVES], [*names[SLICE_LIVES:], *late]
    pairs = zip(firsts, seconds, strict=True)
    return [((first, rng.randrange(1, 3)), (second, 1)) for first, second in pairs]


def test_slice_of_kills_is_of_every_boundary() -> None:
    kills = [kill for life in slice_of_kills() for kill in life]
    assert len(kills) == 20
    assert {name for name, _ in kills} == set(BOUNDARIES)


def test_feed_passes_every_boundary(fault_free: Reference) -> None:
    assert set(occurrences(fault_free[2].passed)) == set(BOUNDARIES)


@pytest.mark.parametrize("kills", slice_of_kills(), ids=lambda k: f"{k[0][0]}-{k[1][0]}")
def test_pipeline_killed_at_boundaries_ends_as_if_it_never_was(
    forge: Forge, fault_free: Reference, tmp_path: Path, kills: Sequence[Kill]
) -> None:
    plain, wanted, _ = fault_free
    life = replace(plain, folder=str(tmp_path))
    for kill in kills:
        assert forge.live(replace(life, kill_at=kill)).status == -signal.SIGKILL
    forge.finish(life)
    assert differences(kept(tmp_path), wanted) == []


@pytest.mark.parametrize("batch", [17, 333, 5_000])
def test_pipeline_with_other_batches_keeps_the_same(
    forge: Forge, fault_free: Reference, tmp_path: Path, batch: int
) -> None:
    plain, wanted, _ = fault_free
    forge.finish(replace(plain, folder=str(tmp_path), batch=batch))
    assert differences(kept(tmp_path), wanted) == []


def test_pipeline_killed_under_retention_ends_as_if_it_never_was(
    forge: Forge, fault_free: Reference, tmp_path: Path
) -> None:
    plain, wanted, _ = fault_free
    life = replace(plain, folder=str(tmp_path), segment_bytes=1)
    for kill in (("retain:after", 1), ("bars:before", 1)):
        assert forge.live(replace(life, kill_at=kill)).status == -signal.SIGKILL
    forge.finish(life)
    found = kept(tmp_path)
    assert found.journal["offset"][0].as_py() > 0
    assert differences(found, wanted) == []


def test_pipeline_restarted_after_a_stop_derives_nothing_again(
    forge: Forge, fault_free: Reference, tmp_path: Path
) -> None:
    plain, wanted, _ = fault_free
    life = replace(plain, folder=str(tmp_path))
    forge.finish(life)
    again = forge.finish(life).passed
    assert set(occurrences(again)) == {"checkpoint:before", "checkpoint:after", "retain:after"}
    assert differences(kept(tmp_path), wanted) == []


def test_pipeline_of_other_code_replays_what_only_the_raw_lake_has(
    forge: Forge, fault_free: Reference, tmp_path: Path
) -> None:
    plain, wanted, _ = fault_free
    life = replace(plain, folder=str(tmp_path), segment_bytes=1)
    forge.finish(life)
    assert kept(tmp_path).journal["offset"][0].as_py() > 0
    other = replace(life, code="+1")
    for kill in (("store:after", 1), ("checkpoint:before", 1)):
        assert forge.live(replace(other, kill_at=kill)).status == -signal.SIGKILL
    forge.finish(other)
    assert differences(kept(tmp_path), wanted) == []


@pytest.mark.parametrize(
    "kills", [(("store:after", 9), ("bars:after", 2)), (("checkpoint:after", 3), ("raw:after", 1))]
)
def test_pipeline_that_has_put_sessions_aside_survives_kills(
    forge: Forge, tmp_path: Path, kills: Sequence[Kill]
) -> None:
    plain, wanted, _ = reference(forge, tmp_path / "reference", week(), batch=20)
    life = replace(plain, folder=str(tmp_path / "killed"))
    for kill in kills:
        assert forge.live(replace(life, kill_at=kill)).status == -signal.SIGKILL
    forge.finish(life)
    assert differences(kept(Path(life.folder)), wanted) == []


# -- in full -------------------------------------------------------------------------------------


@pytest.mark.torture
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("batch", [97, 400])
def test_pipeline_killed_at_each_boundary_ends_as_if_it_never_was(
    forge: Forge,
    fault_free: Reference,
    tmp_path: Path,
    figures: dict[str, str],
    batch: int,
) -> None:
    plain, wanted, _ = fault_free
    life = replace(plain, batch=batch)
    passed = forge.finish(replace(life, folder=str(tmp_path / "whole"))).passed
    for at, name in enumerate(passed):
        mine = replace(life, folder=str(tmp_path / str(at)))
        kill = name, passed[: at + 1].count(name)
        assert forge.live(replace(mine, kill_at=kill)).status == -signal.SIGKILL
        # and at the first boundary that recovery passes, whichever that is
        for again in ("store:before", "checkpoint:before"):
            forge.live(replace(mine, kill_at=(again, 1)))
        forge.finish(mine)
        assert differences(kept(Path(mine.folder)), wanted) == [], kill
        shutil.rmtree(mine.folder)
    figures[f"killed at every boundary, batches of {batch}"] = f"{len(passed)} kills, 0 differences"


@pytest.mark.torture
@pytest.mark.timeout(7_200)
def test_pipeline_killed_at_random_moments_ends_as_if_it_never_was(
    forge: Forge, fault_free: Reference, tmp_path: Path, figures: dict[str, str]
) -> None:
    plain, wanted, _ = fault_free
    rng = random.Random(SEED)
    done = lives = 0
    while done < RANDOM_KILLS:
        lives += 1
        life = replace(
            plain,
            folder=str(tmp_path / str(lives)),
            batch=rng.choice((23, 97, 400)),
            segment_bytes=rng.choice((1, 256 << 20)),
        )
        for seconds in delays(rng):
            end = forge.live(replace(life, kill_after=seconds))
            assert end.status in (0, -signal.SIGKILL), end.error
            done += end.status == -signal.SIGKILL
        forge.finish(life)
        assert differences(kept(Path(life.folder)), wanted) == [], life
        shutil.rmtree(life.folder)
    figures["killed at random moments"] = (
        f"seed {SEED}: {done} kills in {lives} lives, 0 differences"
    )


def delays(rng: random.Random) -> Iterator[float]:
    """Draw when the first life and those that recover are killed, in seconds."""
    for _ in range(rng.randrange(1, 5)):
        yield rng.uniform(0.02, 0.9)


@pytest.mark.torture
@pytest.mark.timeout(7_200)
def test_longer_feed_killed_at_random_moments_ends_as_if_it_never_was(
    forge: Forge, tmp_path: Path, figures: dict[str, str]
) -> None:
    opens = tuple(OPEN_NS + day * DAY_NS for day in range(5))
    feed = records(replace(FAULTY, trades=12_000, minutes=8, opens=opens, bad=0.002))
    plain, wanted, _ = reference(forge, tmp_path / "reference", feed, batch=500)
    rng = random.Random(SEED + 1)
    kills = 0
    for number in range(10):
        life = replace(plain, folder=str(tmp_path / str(number)))
        for _ in range(4):
            kills += forge.live(replace(life, kill_after=rng.uniform(0.1, 2.5))).status < 0
        forge.finish(life)
        assert differences(kept(Path(life.folder)), wanted) == [], life
        shutil.rmtree(life.folder)
    figures["longer feed, killed at random moments"] = (
        f"seed {SEED + 1}: {kills} kills in 10 lives of five days, 12,000 trades, 0 differences"
    )
