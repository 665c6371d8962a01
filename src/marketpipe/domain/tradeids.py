"""Vendor trade ids that are not plain numbers, as integers."""

from hashlib import blake2b


def text_trade_id(text: bytes) -> tuple[int, int]:
    """Return (id_hi, id_lo) of a trade id that is not a plain number.

    62 and 63 bits of the BLAKE2b digest of its UTF-8 bytes. Among 10**9 ids of one symbol and
    session, the odds that any two share all 125 bits are about 10**18 / 2**126, 1 in 10**20.
    """
    digest = int.from_bytes(blake2b(text, digest_size=16).digest(), "big")
    return (digest >> 64) & (2**62 - 1) | 2**62, digest & (2**63 - 1)
