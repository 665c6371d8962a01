"""A cache of answers: the least recently used go first, and each is loaded once at a time."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import NamedTuple

import pyarrow as pa

from marketpipe.errors import UsageError


class CacheCounts(NamedTuple):
    """How often an answer was there (or on its way), and how often it had to be loaded."""

    hits: int
    misses: int


class _Entry(NamedTuple):
    version: Hashable
    bars: pa.Table


class BarCache:
    """Tables of bars by key, each with the version that it is true for.

    For the tasks of one event loop. An entry of another version than the one asked for is
    loaded again, so an answer is never older than the version that the caller has just seen.

    Parameters
    ----------
    max_entries : answers kept at most
    max_bars : rows kept at most, all answers together; a larger answer is not kept

    Raises
    ------
    UsageError
        If a limit is below 1.
    """

    def __init__(self, *, max_entries: int = 1_000, max_bars: int = 1_000_000) -> None:
        for name, value in (("max_entries", max_entries), ("max_bars", max_bars)):
            if value < 1:
                raise UsageError(f"{name}: was '{value}'; valid is 1 or more")
        self._max_entries = max_entries
        self._max_bars = max_bars
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._loading: dict[tuple[Hashable, Hashable], asyncio.Task[pa.Table]] = {}
        self._bars = 0
        self._hits = 0
        self._misses = 0

    async def get(
        self, key: Hashable, version: Hashable, load: Callable[[], Awaitable[pa.Table]]
    ) -> pa.Table:
        """Return the answer to ``key`` as of ``version``, loading it if it is not there.

        Tasks that ask for the same at the same time share one load. If it fails, all of them
        see the error and nothing is kept. A task that is cancelled leaves it to the others.

        Parameters
        ----------
        version : seen before ``load`` begins; what is loaded may be newer, never older
        """
        entry = self._entries.get(key)
        if entry is not None and entry.version == version:
            self._entries.move_to_end(key)
            self._hits += 1
            return entry.bars
        task = self._loading.get((key, version))
        if task is None:
            self._misses += 1
            task = asyncio.ensure_future(self._load(key, version, load))
            self._loading[key, version] = task
            task.add_done_callback(lambda done: self._loaded(key, version, done))
        else:
            self._hits += 1
        return await asyncio.shield(task)

    @property
    def counts(self) -> CacheCounts:
        """Hits and misses so far."""
        return CacheCounts(self._hits, self._misses)

    @property
    def bars(self) -> int:
        """Rows kept now."""
        return self._bars

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget all answers; counts stay."""
        self._entries.clear()
        self._bars = 0

    async def _load(
        self, key: Hashable, version: Hashable, load: Callable[[], Awaitable[pa.Table]]
    ) -> pa.Table:
        bars = await load()
        self._keep(key, _Entry(version, bars))
        return bars

    def _loaded(self, key: Hashable, version: Hashable, task: asyncio.Task[pa.Table]) -> None:
        del self._loading[key, version]
        if not task.cancelled():
            # Marks the error as seen: everybody who waited for it may have been cancelled.
            task.exception()

    def _keep(self, key: Hashable, entry: _Entry) -> None:
        self._drop(key)
        if len(entry.bars) > self._max_bars:
            return
        self._entries[key] = entry
        self._bars += len(entry.bars)
        while len(self._entries) > self._max_entries or self._bars > self._max_bars:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bars -= len(entry.bars)
