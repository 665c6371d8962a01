"""One writer per journal: a lock on a file, which the system drops when the process ends."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from marketpipe.errors import BusyError
from marketpipe.journal.faults import translated

_NAME: Final = "writer.lock"


def holder(folder: Path) -> str:
    """Return the number of the process that was the last to lock a folder, or ``unknown``."""
    try:
        return (folder / _NAME).read_text(errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"


class WriterLock:
    """Holds the lock of a journal's folder until closed.

    Parameters
    ----------
    folder : the journal's folder, which exists

    Raises
    ------
    BusyError
        If another writer holds it, in this process or another; the message names its process.
    JournalError
        If the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / _NAME
        with translated(path, "lock"):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                with translated(path, "lock"):
                    raise
            raise BusyError(
                f"the journal in {folder} already has a writer, process {holder(folder)}; a "
                "journal has one writer at a time: end that process, or read with a reader"
            ) from error
        self._sign()

    def _sign(self) -> None:
        # The lock holds without the signature, so a full disk does not matter here.
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go of the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
