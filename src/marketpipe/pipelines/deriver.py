"""`Deriver`: deriving beside a feed; what storage refuses is tried again."""

import logging
from typing import Final

from marketpipe.errors import NewerVersionError, NondeterminismError, StorageError
from marketpipe.pipelines.live import LivePipeline

FIRST_PAUSE_S: Final = 1.0
"""Real seconds before deriving is tried again; each pause is twice the one before."""
LONGEST_PAUSE_S: Final = 60.0

_log = logging.getLogger("marketpipe.stream")


class Deriver:
    """Derives what a journal gets, and says in the log when it cannot, and when it can again.

    Parameters
    ----------
    pipeline : what derives
    tries_again : whether it goes on, from the last checkpoint, once storage refused something

    Attributes
    ----------
    failure : why nothing is derived now; None while all is well
    pause_s : real seconds to wait before `derive` is called again; 0 for none
    """

    def __init__(self, pipeline: LivePipeline, *, tries_again: bool) -> None:
        self._pipeline, self._tries_again = pipeline, tries_again
        self.failure: Exception | None = None
        self.pause_s = 0.0

    @property
    def has_given_up(self) -> bool:
        """Whether nothing will be derived any more."""
        return self.failure is not None and not self.pause_s

    async def derive(self) -> None:
        """Derive what the journal has; a failure is kept, not raised."""
        if self.has_given_up:
            return
        try:
            if self.failure is None:
                await self._pipeline.catch_up()
            else:
                await self._derive_anew()
        except Exception as failure:
            self._failed(failure)

    async def _derive_anew(self) -> None:
        await self._pipeline.start()
        await self._pipeline.catch_up()
        # Flushes fail in the background: only what is kept shows that all can be written again.
        await self._pipeline.checkpoint()
        self.failure, self.pause_s = None, 0.0
        _log.warning(
            "%s: derives again; caught up to offset %d", self._pipeline.name, self._pipeline.through
        )

    def _failed(self, failure: Exception) -> None:
        last, self.failure = self.failure, failure
        if not (self._tries_again and may_pass(failure)):
            self.pause_s = 0.0
            _log.error("cannot derive, so the feed is stopped: %s", failure)
            return
        self.pause_s = min(2 * self.pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
        if type(last) is not type(failure):
            _log.error(
                "%s: no bars until this is mended; messages are kept in the journal: %s",
                self._pipeline.name,
                failure,
            )


def may_pass(failure: Exception) -> bool:
    """Tell whether what storage refused may work later."""
    return isinstance(failure, StorageError) and not isinstance(
        failure, (NondeterminismError, NewerVersionError)
    )
