"""Instants that a user types."""

import pytest

from marketpipe.errors import UsageError
from marketpipe.pipelines.takeout import instant

T0 = 1_767_623_400_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-05T14:30:00Z", T0),
        ("2026-01-05T14:30Z", T0),
        ("2026-01-05T09:30:00-05:00", T0),
        ("2026-01-05T14:30:00.000000001Z", T0 + 1),
        ("2026-01-05T09:30:00.1-05:00", T0 + 100_000_000),
    ],
)
def test_instant_keeps_every_nanosecond(text: str, expected: int) -> None:
    assert instant(text) == expected


@pytest.mark.parametrize(
    "text", ["2026-01-05T14:30:00", "noon", "2026-01-05T14:30:00.0000000001Z", "2026-13-05T00:00Z"]
)
def test_instant_that_is_none_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="as-of: was"):
        instant(text)
