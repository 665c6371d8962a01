"""What ``import marketpipe as mp`` opens: the data folder, for reading."""

from collections.abc import Mapping
from pathlib import Path

from marketpipe.domain.findings import Findings
from marketpipe.errors import UsageError
from marketpipe.lake import Lake
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.settings import Settings, read_settings


def open_lake(where: str | Path | Settings = "data") -> Lake:
    """Open a data folder's lake for reading: ``mp.open("data")``.

    Parameters
    ----------
    where : a data folder, which need not exist yet; or settings, whose folder it is. For a
        folder, the series priority is that of the configuration: environment and ``keys.env``

    Raises
    ------
    UsageError
        If the configuration cannot be read, or a place is named that is no folder.
    """
    if isinstance(where, str) and "://" in where:
        raise UsageError(
            f"open: was '{where}'; only folders of this machine can be opened so far: name one"
        )
    settings = where if isinstance(where, Settings) else read_settings(given={"data_dir": where})
    folder = folder_of(settings)

    def findings() -> Mapping[str, Findings]:
        # Imported when asked for: whoever reads bars needs no database.
        from marketpipe.pipelines.noticed import noticed

        return noticed(folder)

    return Lake(folder.lake.root, priority=settings.series.priority, findings=findings)


def folder_of(settings: Settings) -> DataFolder:
    """Return where the configuration keeps everything."""
    url = settings.database_url
    return DataFolder(
        settings.data_dir,
        None if url is None else url.get_secret_value(),
        settings.lake.buckets,
        settings.lake.disk_budget_bytes,
    )
