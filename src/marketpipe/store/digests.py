"""What remains of a bar that retention took: a digest of its content."""

from hashlib import blake2b

from marketpipe.store.rows import Row


def content_digest(row: Row) -> int:
    """Return 64 bits of BLAKE2b over a row of `CONTENT`, its series left aside, signed.

    The same in every database and version: each value as text, a null as one zero byte, parted
    by the unit separator.
    """
    parts = ("\0" if value is None else str(_plain(value)) for value in row[1:])
    digest = blake2b("\x1f".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _plain(value: object) -> object:
    return int(value) if isinstance(value, bool) else value
