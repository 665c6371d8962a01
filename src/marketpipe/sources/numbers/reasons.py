"""Why a line is quarantined: small codes for the kernel, names for everyone else."""

from typing import Final

OK: Final = 0
MISSING_VALUE: Final = 1
BAD_NUMBER: Final = 2
BELOW_RESOLUTION: Final = 3
OUT_OF_RANGE: Final = 4
BAD_TIMESTAMP: Final = 5
NAIVE_TIMESTAMP: Final = 6
BAD_SYMBOL: Final = 7
BAD_NAME: Final = 8
BAD_SIDE: Final = 9
BAD_FIELD_COUNT: Final = 10
BAD_QUOTE: Final = 11
BAD_UTF8: Final = 12
LINE_TOO_LONG: Final = 13
REPEATED_HEADER: Final = 14
REASONS: Final = (
    "ok",
    "missing_value",
    "bad_number",
    "below_resolution",
    "out_of_range",
    "bad_timestamp",
    "naive_timestamp",
    "bad_symbol",
    "bad_name",
    "bad_side",
    "bad_field_count",
    "bad_quote",
    "bad_utf8",
    "line_too_long",
    "repeated_header",
)
