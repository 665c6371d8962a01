"""Admitted trades of a run that reads nothing back from the lake: in files, not in memory."""

from pathlib import Path

import pyarrow as pa

from marketpipe.domain.schemas import TRADES
from marketpipe.pipelines.history import TradeHistory, no_lake


class SpooledHistory(TradeHistory):
    """Trades of one run, mapped from files of a folder.

    Parameters
    ----------
    folder : empty; the caller removes it
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(no_lake, 0)
        self._folder = folder
        self._files = 0

    def extend(self, trades: pa.Table) -> None:
        """Take in trades that have just been admitted."""
        if not len(trades):
            return
        path = self._folder / f"{self._files:08d}.arrow"
        self._files += 1
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, TRADES) as writer:
            writer.write_table(trades)
        with pa.memory_map(str(path)) as source:
            super().extend(pa.ipc.open_file(source).read_all())
