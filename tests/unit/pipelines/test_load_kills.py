"""A load that is killed at a write, and done again, ends as one that was not."""

import tempfile
from pathlib import Path

import pytest

from loadkit import KILLED, NOW, Trade, day, everything, killed, load, load_settings, write
from marketpipe.errors import BusyError, StorageError
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.loadproof import prove_loads
from marketpipe.pipelines.ownership import batch_lock

BOUNDARIES = (
    *("journal:before", "lines:after", "journal:after", "raw:after", "ticks:after-2"),
    *("store:before", "store:after-2", "bars:after", "loaded:after"),
)


def test_load_killed_at_any_write_and_done_again_equals_one_that_was_not(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", day(120))
    (tmp_path / "killed").mkdir()
    ends = killed(tmp_path / "killed", path, BOUNDARIES)
    assert ends == dict.fromkeys(BOUNDARIES, KILLED)
    whole = load(tmp_path / "whole", path)
    assert (whole.new, whole.bars) == (240, 4 + 2 + 2)
    wanted = everything(tmp_path / "whole")
    for boundary in BOUNDARIES:
        folder = tmp_path / "killed" / boundary
        load(folder, path, now_ns=NOW + 10**9)
        kept = everything(folder)
        # the time of the load is when it first began
        assert [n for n in wanted if kept[n] != wanted[n]] == [], boundary
        assert load(folder, path).already, boundary


def test_load_broken_off_for_other_bars_says_which(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", day(60))
    (tmp_path / "killed").mkdir()
    killed(tmp_path / "killed", path, ["store:before"])
    other = write(tmp_path / "u.csv", day(61))
    with pytest.raises(StorageError, match=r"load of t\.csv broke off.*1m,5m,1d.*same options"):
        load(tmp_path / "killed" / "store:before", other, settings=load_settings("1h"))


def test_load_of_another_file_finishes_the_one_that_broke_off(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", day(60))
    (tmp_path / "killed").mkdir()
    killed(tmp_path / "killed", path, ["store:before"])
    folder = tmp_path / "killed" / "store:before"
    other = write(tmp_path / "u.csv", [Trade(7200, "5", number=9, symbol="MSFT")])
    report = load(folder, other)
    assert (report.new, report.bars, report.given_up) == (1, 3, "")
    assert load(folder, path).already


def test_load_broken_off_within_its_lines_is_given_up_for_another_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", day(60))
    (tmp_path / "killed").mkdir()
    killed(tmp_path / "killed", path, ["lines:after"])
    folder = tmp_path / "killed" / "lines:after"
    other = write(tmp_path / "u.csv", [Trade(0, "5", number=9, symbol="MSFT")])
    report = load(folder, other)
    assert (report.given_up, report.new) == ("t.csv", 1)
    again = load(folder, path)
    assert (again.already, again.new) == (False, 120)


def test_load_after_a_kill_leaves_no_folder_of_the_killed_one(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", day(60))
    (tmp_path / "killed").mkdir()
    assert killed(tmp_path / "killed", path, ["ticks:after"]) == {"ticks:after": KILLED}
    data = DataFolder(tmp_path / "killed" / "ticks:after")
    (left,) = data.scratch.iterdir()
    assert list(left.rglob("*.feather"))
    with pytest.raises(BusyError, match=r"load of t\.csv broke off.*once more"):
        prove_loads(data)
    before = set(Path(tempfile.gettempdir()).glob("marketpipe-*"))
    load(data.root, path)
    assert not data.scratch.exists()
    (proof,) = prove_loads(data)
    assert (proof.agrees, len(proof.sides), data.scratch.exists()) == (True, 5, False)
    # whatever comes next clears it, not just another load
    data.scratch.mkdir()
    (data.scratch / "load-killed").mkdir()
    with batch_lock(data):
        assert not data.scratch.exists()
    assert set(Path(tempfile.gettempdir()).glob("marketpipe-*")) <= before
