"""Pipelines that compact and vacuum as they write, killed at it, lose and double nothing."""

import json
import os
import random  # noqa: TID251
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from crashkit import COMPACTION, End, Forge, Kept, Life, differences, kept, occurrences
from livekit import OPEN_NS
from marketpipe.domain.units import NANOS
from marketpipe.lake import LakeTable
from marketpipe.lake.table import HORIZON_HOURS
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.lakesink import TABLES

SEED = 20260108
RANDOM_KILLS = 100

Reference = tuple[Life, Kept, End]


def compacting(plain: Life, folder: Path) -> Life:
    """Return the life of a pipeline that compacts often, on the same feed."""
    return replace(plain, folder=str(folder), batch=40, compacts=True)


def uncommitted(folder: Path) -> set[Path]:
    """Return the files of the lake that no commit ever named: left by writes that were killed."""
    lake = DataFolder(folder).lake.root
    named: set[str] = set()
    for log in lake.rglob("_delta_log/*.json"):
        actions = [json.loads(line) for line in log.read_text().splitlines()]
        named |= {Path(a["add"]["path"]).name for a in actions if "add" in a}
    return {path for path in lake.rglob("part-*.parquet") if path.name not in named}


def age(folder: Path) -> None:
    """Let all files of the lake be past the horizon of a vacuum, by the file system's time."""
    long_ago = OPEN_NS // NANOS - HORIZON_HOURS * 3600
    for path in DataFolder(folder).lake.root.rglob("*.parquet"):
        os.utime(path, (long_ago, long_ago))


def test_pipeline_killed_at_its_compaction_ends_as_one_that_never_compacted(
    forge: Forge, fault_free: Reference, tmp_path: Path
) -> None:
    plain, wanted, _ = fault_free
    life = compacting(plain, tmp_path)
    left: set[Path] = set()
    for name in COMPACTION:
        # the second file is one of several that are committed at once
        kill = name, 2 if name == "compaction:file" else 1
        assert forge.live(replace(life, kill_at=kill)).status == -signal.SIGKILL, name
        left |= uncommitted(tmp_path)
        age(tmp_path)
    assert left
    assert set(COMPACTION) <= set(forge.finish(life).passed)
    assert differences(kept(tmp_path), wanted) == []
    # the vacuum of a life after took away what a killed one left, and nothing else
    assert not any(path.exists() for path in left)
    for name in TABLES:
        LakeTable.open(DataFolder(tmp_path).lake, name, create=False).check()


# -- in full -------------------------------------------------------------------------------------


@pytest.mark.torture
@pytest.mark.timeout(7_200)
def test_pipeline_killed_at_each_boundary_of_compaction_ends_as_if_it_never_was(
    forge: Forge, fault_free: Reference, tmp_path: Path, figures: dict[str, str]
) -> None:
    plain, wanted, _ = fault_free
    passed = occurrences(forge.finish(compacting(plain, tmp_path / "whole")).passed)
    kills = [(name, n) for name in COMPACTION for n in range(1, passed[name] + 1)]
    for name, n in kills:
        life = compacting(plain, tmp_path / f"{name}-{n}")
        assert forge.live(replace(life, kill_at=(name, n))).status == -signal.SIGKILL
        age(Path(life.folder))
        forge.finish(life)
        assert differences(kept(Path(life.folder)), wanted) == [], (name, n)
        shutil.rmtree(life.folder)
    figures["killed at every boundary of compaction"] = f"{len(kills)} kills, 0 differences"


@pytest.mark.torture
@pytest.mark.timeout(7_200)
def test_pipeline_that_compacts_killed_at_random_moments_ends_as_if_it_never_was(
    forge: Forge, fault_free: Reference, tmp_path: Path, figures: dict[str, str]
) -> None:
    plain, wanted, _ = fault_free
    began = time.monotonic()
    forge.finish(compacting(plain, tmp_path / "whole"))
    seconds = time.monotonic() - began
    rng = random.Random(SEED)
    kills = lives = compactions = gone = 0
    while kills < RANDOM_KILLS:
        lives += 1
        life = compacting(plain, tmp_path / str(lives))
        for _ in range(rng.randrange(1, 5)):
            end = forge.live(replace(life, kill_after=rng.uniform(0.02, seconds)))
            assert end.status in (0, -signal.SIGKILL), end.error
            kills += end.status < 0
            age(Path(life.folder))
        left = uncommitted(Path(life.folder))
        compactions += forge.finish(life).passed.count("compaction:after")
        gone += sum(not path.exists() for path in left)
        assert differences(kept(Path(life.folder)), wanted) == [], life
        shutil.rmtree(life.folder)
    assert gone
    figures["compacting, killed at random moments"] = (
        f"seed {SEED}: {kills} kills in {lives} lives, {compactions} compactions after the last "
        f"kills, {gone} files of killed writes vacuumed, 0 differences"
    )
