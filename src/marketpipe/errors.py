"""The error tree: every exception MarketPipe raises on purpose.

::

    MarketPipeError
    ├── UsageError            wrong words from the user; the command line exits 2
    │   ├── TimeframeError    a timeframe that cannot be read
    │   ├── CalendarError     an unknown calendar or session, a bad override file
    │   ├── RuleSetError      an unknown or malformed condition rule table
    │   ├── SeriesError       a read that names no series, or more than one
    │   └── InputError        a file or table that cannot be read as ticks or bars
    │       ├── HeaderError   required columns are missing, unknown or doubled
    │       └── CorruptError  the bytes end early or do not decode
    └── EngineError           the bar engine refuses to go on
        ├── BarOverflowError  a sum no longer fits its column
        └── StateError        saved state that does not belong to this engine

Messages say what, where, ``was '…'``, what would be valid, and the remedy.
"""


class MarketPipeError(Exception):
    """Root of every error raised on purpose."""


class UsageError(MarketPipeError):
    """The caller's words or input cannot be used."""


class TimeframeError(UsageError):
    """A timeframe that cannot be read."""


class CalendarError(UsageError):
    """An unknown calendar or session, or a bad override file."""


class RuleSetError(UsageError):
    """An unknown or malformed condition rule table."""


class InputError(UsageError):
    """A file or table that cannot be read as ticks or bars."""


class HeaderError(InputError):
    """Required columns are missing, unknown or doubled."""


class CorruptError(InputError):
    """The bytes end early or do not decode."""


class EngineError(MarketPipeError):
    """The bar engine refuses to go on."""


class BarOverflowError(EngineError):
    """A sum no longer fits its column; nothing wraps."""


class StateError(EngineError):
    """Saved state that does not belong to this engine."""


class SeriesError(UsageError):
    """A read that names no series, or more than one; the message lists the choices."""
