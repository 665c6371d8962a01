"""Vendor trade ids as integers, and as canonical text.

A plain number stays one. Any other id is known by 125 bits of its digest, written ``#`` and 32
hexadecimal digits; the id as the vendor wrote it is in the raw message.
"""

import re
from hashlib import blake2b
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import I64

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_LARGEST: Final = 2**63 - 1


def text_trade_id(text: bytes) -> tuple[int, int]:
    """Return (id_hi, id_lo) of a trade id that is not a plain number.

    62 and 63 bits of the BLAKE2b digest of its UTF-8 bytes. Among 10**9 ids of one symbol and
    session, the odds that any two share all 125 bits are about 10**18 / 2**126, 1 in 10**20.
    """
    digest = int.from_bytes(blake2b(text, digest_size=16).digest(), "big")
    return (digest >> 64) & (2**62 - 1) | 2**62, digest & (2**63 - 1)


def canonical_trade_id(text: str) -> str:
    """Return the canonical text of an id as the vendor wrote it.

    >>> canonical_trade_id("52983525034326")
    '52983525034326'
    """
    if _NUMBER.fullmatch(text) and int(text) <= _LARGEST:
        return text
    return _hexed(*text_trade_id(text.encode()))


def trade_id_texts(id_hi: I64, id_lo: I64) -> pa.Array:
    """Return the canonical texts of ids as in `TradeBatch`; null where there is none."""
    texts = pa.array(id_lo, mask=id_hi != 0).cast(pa.string())
    wide = np.flatnonzero(id_hi > 0)
    if not len(wide):
        return texts
    found = texts.to_pylist()
    for i in wide.tolist():
        found[i] = _hexed(int(id_hi[i]), int(id_lo[i]))
    return pa.array(found, pa.string())


def trade_id_numbers(texts: pa.Array) -> tuple[I64, I64]:
    """Return (id_hi, id_lo) of canonical texts; the reverse of `trade_id_texts`."""
    present = pc.is_valid(texts)
    hexed = pc.fill_null(pc.starts_with(texts, "#"), False)
    id_hi = np.where(np.asarray(present), 0, -1).astype(np.int64)
    plain = pc.if_else(pc.or_(hexed, pc.invert(present)), pa.scalar("0"), texts)
    id_lo = np.array(plain.cast(pa.int64()), np.int64)
    for i in np.flatnonzero(np.asarray(hexed)).tolist():
        text = texts[i].as_py()
        id_hi[i], id_lo[i] = int(text[1:17], 16), int(text[17:], 16)
    return id_hi, id_lo


def _hexed(id_hi: int, id_lo: int) -> str:
    return f"#{id_hi:016x}{id_lo:016x}"
