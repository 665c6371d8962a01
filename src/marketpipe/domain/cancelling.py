"""Work that a cancelled task does not leave half done."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def finished(
    work: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make a coroutine function end what it began before a cancellation goes on.

    What runs in a thread no cancellation stops. Left to itself, a statement of SQLite would keep
    the write lock or an old snapshot for as long as its connection lived, and an append would go
    on after the next one began. What was taken from a queue and is cancelled on its way is lost.
    """

    @wraps(work)
    async def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        task = asyncio.ensure_future(work(*args, **kwargs))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # seen: the caller is told of the cancellation instead
            raise

    return whole
