"""`OwnTasks`: who of a feed's own callers asks it to stop, and so must not wait for its end."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class OwnTasks:
    """The tasks in which a feed runs, or calls back, now."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any] | None] = set()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count the task at hand as the feed's own meanwhile."""
        task = asyncio.current_task()
        is_new = task not in self._tasks
        self._tasks.add(task)
        try:
            yield
        finally:
            if is_new:
                self._tasks.discard(task)

    @property
    def has_current(self) -> bool:
        """Whether the task at hand is one of them."""
        return asyncio.current_task() in self._tasks
