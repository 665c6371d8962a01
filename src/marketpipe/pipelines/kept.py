"""What `replay --store` keeps, and how `export` finds it again.

``<data-dir>/replays/000001/`` holds ``history.parquet`` (every revision) and
``manifest.json``. Folders are numbered as they come and never changed.
"""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from marketpipe.domain.schemas import BARS
from marketpipe.errors import CorruptError, UsageError
from marketpipe.verify.manifest import RunManifest


def keep(data_dir: Path, history: pa.Table, manifest: RunManifest) -> Path:
    """Write a replay's revisions and manifest into a folder of its own; return the folder."""
    root = data_dir / "replays"
    root.mkdir(parents=True, exist_ok=True)
    unready = root / f".writing-{os.getpid()}"
    shutil.rmtree(unready, ignore_errors=True)
    unready.mkdir()
    pq.write_table(history, unready / "history.parquet", compression="zstd")
    (unready / "manifest.json").write_text(manifest.to_json(), "ascii")
    number = max(_numbers(root), default=0)
    while True:
        number += 1
        folder = root / f"{number:06d}"
        try:
            unready.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            continue
        return folder


def kept_history(data_dir: Path, number: int | None = None) -> tuple[pa.Table, Path]:
    """Return the revisions that a replay kept, and its folder; the newest one by default.

    Raises
    ------
    UsageError
        If there is no such replay.
    CorruptError
        If its file cannot be read.
    """
    root = data_dir / "replays"
    numbers = sorted(_numbers(root))
    if not numbers:
        raise UsageError(
            f"data-dir: '{data_dir}' holds no replay; run one with "
            "marketpipe replay --csv FILE --store first"
        )
    chosen = numbers[-1] if number is None else number
    if chosen not in numbers:
        raise UsageError(f"replay: was {chosen}; '{data_dir}' holds {', '.join(map(str, numbers))}")
    folder = root / f"{chosen:06d}"
    try:
        return pq.read_table(folder / "history.parquet", schema=BARS), folder
    except (OSError, pa.ArrowInvalid) as problem:
        raise CorruptError(
            f"'{folder / 'history.parquet'}' cannot be read ({problem}); replay the input again"
        ) from problem


def _numbers(root: Path) -> list[int]:
    if not root.is_dir():
        return []
    return [int(entry.name) for entry in root.iterdir() if entry.name.isdigit()]
