"""Compiled kernels survive between runs, wherever the package is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import marketpipe
from marketpipe.compiled import KERNELS, SOURCES, drop_stale

CODE = "from marketpipe.bars import BarEngine; BarEngine(['1m']).apply_trade('A', 1, 10**9, 10**9)"


def test_kernels_package_and_home_unwritable_are_cached_below_the_data_folder(
    tmp_path: Path,
) -> None:
    site = tmp_path / "site"
    shutil.copytree(
        Path(marketpipe.__file__).parent,
        site / "marketpipe",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    # a file where a folder must be stops even root, whom permissions do not
    for folder in ("bars", "normalize", "sources/csvfile"):
        (site / "marketpipe" / folder / "__pycache__").write_text("")
    home = tmp_path / "home"
    home.write_text("")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "NUMBA_"))}
    env |= {"HOME": str(home), "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", CODE]
    cache = tmp_path / "data" / ".cache" / "kernels"

    def run() -> dict[str, int]:
        subprocess.run(command, env=env, cwd=tmp_path, check=True)
        return {p.name: p.stat().st_mtime_ns for p in cache.rglob("*.nbc")}

    first = run()
    assert first
    assert run() == first


def test_kernels_any_source_changed_are_compiled_anew(tmp_path: Path) -> None:
    for folder in SOURCES:
        (tmp_path / folder / "__pycache__").mkdir(parents=True)
        (tmp_path / folder / "some.py").write_text("")
    cached = [tmp_path / folder / "__pycache__" / "x.nbc" for folder in KERNELS]

    def kept() -> list[bool]:
        drop_stale(tmp_path)
        return [path.exists() for path in cached]

    drop_stale(tmp_path)
    for path in cached:
        path.write_text("machine code")
    assert all(kept())
    (tmp_path / "domain" / "some.py").write_text("LIMIT = 1")
    assert not any(kept())
