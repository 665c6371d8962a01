"""What the pipelines of a data folder noticed, as of the last checkpoint of each."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from marketpipe.domain.findings import Findings
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.store import Database, FindingsStore
from marketpipe.store.urls import parse_url


def noticed(folder: DataFolder) -> Mapping[str, Findings]:
    """Return the findings by pipeline, such as ``live/mock-file``; none where there is no database.

    Raises
    ------
    StorageError
        If the database cannot be read.
    UsageError
        If its URL cannot be used.
    """
    file = parse_url(folder.store_url).file
    if file is not None and not file.exists():
        return {}
    # In a thread of its own, because a notebook's has a loop that is running.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _read(folder.store_url)).result()


async def _read(url: str) -> dict[str, Findings]:
    async with await Database.open(url) as database:
        return await FindingsStore(database).every()
