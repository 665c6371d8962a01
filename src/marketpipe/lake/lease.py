"""The lease under which one process at a time rearranges the files of a table."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marketpipe.errors import BusyError
from marketpipe.lake.faults import told_as_ours


@contextmanager
def lease(table: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lease of a table; it ends with the block, or with the process however that ends.

    Parameters
    ----------
    table : the table's folder; the lease is the lock on ``<table>.lease`` beside it
    wait : wait until the holder is done, rather than refuse

    Raises
    ------
    BusyError
        If another process (or another thread) holds it; the message names the process.

    Notes
    -----
    A table must be opened *inside* the lease: what was read before may have been rearranged since.
    The file stays: were it removed, two processes could lock two files of the same name.
    """
    path = table.with_name(f"{table.name}.lease")
    with told_as_ours(f"opening the lease {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(descriptor, path, wait=wait)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, *, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace") or "unknown"
        raise BusyError(
            f"the lease {path} is held by process '{holder}', which rearranges the table's files; "
            "one at a time may; try again when it is done"
        ) from error
