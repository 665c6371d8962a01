"""Instants as users write them, read as ns since the epoch."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeAlias

from marketpipe.domain.units import MAX_TS_NS, NANOS
from marketpipe.errors import UsageError

Instant: TypeAlias = int | str | date | datetime
"""Nanoseconds since the epoch, RFC 3339 with a zone, an aware datetime, or a date: the start of
that UTC day."""

_VALID: Final = (
    "valid are a date ('2026-01-05', the start of that UTC day), RFC 3339 with a zone "
    "('2026-01-05T14:30:00Z'), an aware datetime, or whole ns since 1970-01-01T00:00:00Z"
)
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?([Zz]|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def instant_ns(value: Instant, name: str) -> int:
    """Return an instant as ns since the epoch, exactly.

    Parameters
    ----------
    value : a date stands for the start of that UTC day; seconds may be left out
    name : of the parameter, for the message

    Raises
    ------
    UsageError
        If it cannot be read, names no zone, or does not fit int64.
    """
    ts_ns = _read(value, name)
    if not -MAX_TS_NS <= ts_ns <= MAX_TS_NS:
        raise UsageError(f"{name}: was '{value}', which lies outside of the years 1678 to 2262")
    return ts_ns


def _read(value: Instant, name: str) -> int:
    if isinstance(value, str):
        return _of_text(value, name)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise UsageError(
                f"{name}: was '{value}', a datetime without a zone; add one, "
                "as in datetime(2026, 1, 5, 14, 30, tzinfo=UTC)"
            )
        # pandas' Timestamp is a datetime with nanoseconds besides.
        return _of_datetime(value) + int(getattr(value, "nanosecond", 0))
    if isinstance(value, date):
        return _of_datetime(datetime(value.year, value.month, value.day, tzinfo=UTC))
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise UsageError(f"{name}: was {value!r}; {_VALID}")


def _of_datetime(value: datetime) -> int:
    return (value - _EPOCH) // timedelta(microseconds=1) * 1000


def _of_text(text: str, name: str) -> int:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise UsageError(f"{name}: was {text[:60]!r}; {_VALID}")
    day, minutes, seconds, fraction, zone = match.groups()
    if minutes is not None and zone is None:
        raise UsageError(f"{name}: was {text!r}, which names no zone; add Z, or an offset (-05:00)")
    clock = f"{minutes or '00:00'}:{seconds or '00'}"
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{(zone or 'Z').upper()}")
        since = whole - _EPOCH
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{name}: was {text!r}, which is no such time ({error})") from None
    return since // timedelta(seconds=1) * NANOS + int((fraction or "").ljust(9, "0"))
