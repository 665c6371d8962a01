"""Bars of finished sessions, out of an engine's memory and in files until a tick needs them."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import zstandard

from marketpipe.bars import BarEngine
from marketpipe.bars.state import EngineState
from marketpipe.domain.batches import I64
from marketpipe.errors import StorageError
from marketpipe.lake.faults import told_as_ours

SESSIONS_KEPT: Final = 2
"""Session dates that stay in memory: the running one, and the one whose late ticks still come."""

_SUFFIX: Final = ".bars.zst"


class Aside:
    """Keeps the bars of one engine by session date; putting aside changes no result.

    A file is never changed. Which files count is part of the pipeline's state (`index`), so a
    pipeline that goes on from an earlier checkpoint finds those of then.

    Parameters
    ----------
    folder : of this engine alone; made when something is put there
    index : file names by session date, days since 1970-01-01
    """

    def __init__(self, folder: Path, index: dict[int, str] | None = None) -> None:
        self._folder = folder
        self.index: dict[int, str] = dict(index or {})

    def put(self, engine: BarEngine) -> None:
        """Take all but the last sessions out of an engine."""
        dates = engine.session_dates()
        if len(dates) <= SESSIONS_KEPT:
            return
        taken = engine.detach(int(dates[-SESSIONS_KEPT]))
        for date in np.unique(taken.rows["session_date"]).tolist():
            mine = taken.rows["session_date"] == date
            aux = taken.aux[mine] if len(taken.aux) else taken.aux
            self.index[date] = self._write(date, replace(taken, rows=taken.rows[mine], aux=aux))

    def bring_back(self, engine: BarEngine, ts_event: I64) -> None:
        """Put the sessions that hold some instants (ns) back into their engine."""
        if not self.index or not len(ts_event):
            return
        for date in np.unique(engine.dates_of(ts_event)).tolist():
            if date in self.index:
                engine.attach(self._read(self.index.pop(date)))

    def tidy(self, saved: frozenset[str]) -> None:
        """Delete the files that neither a saved state nor this one counts."""
        if not self._folder.is_dir():
            return
        counted = saved | set(self.index.values())
        for path in self._folder.iterdir():
            if path.name.endswith(_SUFFIX) and path.name not in counted:
                path.unlink()

    def _write(self, date: int, state: EngineState) -> str:
        data = zstandard.ZstdCompressor(level=1).compress(state.to_bytes())
        name = f"{date}-{hashlib.sha256(data).hexdigest()[:16]}{_SUFFIX}"
        self._folder.mkdir(parents=True, exist_ok=True)
        unready = self._folder / f".{name}"
        with told_as_ours(f"putting bars aside in {self._folder}"), unready.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unready.rename(self._folder / name)
        return name

    def _read(self, name: str) -> EngineState:
        path = self._folder / name
        try:
            return EngineState.from_bytes(
                zstandard.ZstdDecompressor().decompress(path.read_bytes())
            )
        except (OSError, zstandard.ZstdError) as problem:
            raise StorageError(
                f"bars put aside: '{path}' cannot be read ({problem}); delete the folder "
                f"'{self._folder}' and the checkpoint, and start again: everything is derived anew"
            ) from problem
