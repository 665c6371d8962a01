"""Messages in msgpack as JSON, for a reader that knows JSON alone.

Written from the msgpack specification: of its timestamps (extension -1) all three lengths, exactly;
a float is written as the shortest decimal that stands for it.
"""

import json
from typing import Any, Final

import msgspec

_FIRST_OF_MAP: Final = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
_SECONDS_BITS: Final = 34

_members = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_value = msgspec.msgpack.Decoder().decode


def as_json(payload: bytes) -> bytes:
    """Return a message in JSON; one that is no map of msgpack, or cannot be read, as it is.

    Only members of the message itself may be timestamps, as in Alpaca's.
    """
    if not payload or payload[0] not in _FIRST_OF_MAP:
        return payload
    try:
        said = {name: _read(bytes(raw)) for name, raw in _members(payload).items()}
        return json.dumps(said).encode()
    except (msgspec.DecodeError, ValueError, TypeError, UnicodeDecodeError):
        return payload


def _read(raw: bytes) -> Any:
    if raw[:2] == b"\xd6\xff":
        return _rfc3339(int.from_bytes(raw[2:6], "big"), 0)
    if raw[:2] == b"\xd7\xff":
        both = int.from_bytes(raw[2:10], "big")
        return _rfc3339(both & ((1 << _SECONDS_BITS) - 1), both >> _SECONDS_BITS)
    if raw[:3] == b"\xc7\x0c\xff":
        seconds = int.from_bytes(raw[7:15], "big", signed=True)
        return _rfc3339(seconds, int.from_bytes(raw[3:7], "big"))
    return _value(raw)


def _rfc3339(seconds: int, nanos: int) -> str:
    days, rest = divmod(seconds, 86_400)
    year, month, day = _civil(days)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{year:04}-{month:02}-{day:02}T{clock}.{nanos:09}Z"


def _civil(days: int) -> tuple[int, int, int]:
    """Return the date of days since 1970-01-01, by H. Hinnant's "days to civil"."""
    era, of_era = divmod(days + 719_468, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    return year_of_era + era * 400 + (month <= 2), month, day
