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
    ├── EngineError           the bar engine refuses to go on
    │   ├── BarOverflowError  a sum no longer fits its column
    │   └── StateError        saved state that does not belong to this engine
    ├── VendorError           a vendor, or the way to it, fails; the command line exits 3
    │   ├── ConnectError      what answers is not the vendor, or not in its words
    │   │   └── UnreachableError  nothing answers, or it hung up: waiting may mend it
    │   ├── AuthError         the keys are missing or wrong
    │   ├── EntitlementError  the plan does not include what was asked
    │   ├── RateLimitError    more requests or connections than the plan allows
    │   └── RefusedError      it calls what was asked wrong
    └── StorageError          what keeps the data fails; the command line exits 3
        ├── JournalError      a journal cannot be written or read
        ├── LakeError         a table of the lake cannot be written or read
        ├── StoreError        the serving database cannot be written or read
        │   └── NondeterminismError  the same bar and revision came with other content
        ├── BusyError         another process holds what only one may hold
        ├── FullError         the disk, or the budget set for it, is full
        └── NewerVersionError data of a newer version of MarketPipe

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


class VendorError(MarketPipeError):
    """A vendor of data, or the way to it, fails; no message ever holds a key."""


class ConnectError(VendorError):
    """What answers is not the vendor, or does not speak as it does; waiting mends nothing."""


class UnreachableError(ConnectError):
    """Nothing answers, or it hung up; waiting may mend it."""


class AuthError(VendorError):
    """The keys for a vendor are missing or wrong."""


class EntitlementError(VendorError):
    """The plan with a vendor does not include what was asked."""


class RateLimitError(VendorError):
    """A vendor was asked more often, or holds more connections, than the plan allows."""


class RefusedError(VendorError):
    """A vendor calls what was asked wrong; asking again would not help."""


class StorageError(MarketPipeError):
    """What keeps the data fails; nothing that was acknowledged is lost."""


class JournalError(StorageError):
    """A journal cannot be written or read."""


class LakeError(StorageError):
    """A table of the lake cannot be written or read."""


class StoreError(StorageError):
    """The serving database cannot be written or read."""


class NondeterminismError(StoreError):
    """The same bar and revision came with other content; nothing was overwritten."""


class BusyError(StorageError):
    """Another process holds what only one may hold; the message names it."""


class FullError(StorageError):
    """The disk, or the budget set for it, is full."""


class NewerVersionError(StorageError):
    """Data written by a newer version of MarketPipe."""
