"""Errors of the libraries below the lake, told as ours."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from deltalake.exceptions import DeltaError

from marketpipe.errors import FullError, LakeError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_WORDS = tuple(f"(os error {code})" for code in _FULL)


@contextmanager
def told_as_ours(what: str) -> Iterator[None]:
    """Turn errors of deltalake, Arrow and the system into `LakeError` or `FullError`.

    ``what`` says what was tried and with which table; it begins the message.
    """
    try:
        yield
    except (DeltaError, pa.ArrowException, OSError) as error:
        if _is_full(error):
            raise FullError(
                f"{what} failed: the disk is full; nothing of it was committed; free space or "
                f"move the data folder, then go on: {error}"
            ) from error
        raise LakeError(f"{what} failed: {error}") from error


def _is_full(error: Exception) -> bool:
    # deltalake passes system errors on as text only.
    code = error.errno if isinstance(error, OSError) else None
    return code in _FULL or any(words in str(error) for words in _FULL_WORDS)
