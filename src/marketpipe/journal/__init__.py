"""Takes records of messages; gives them back in order, by offset, byte for byte.

Never parses a payload, reads a clock, or skips a record without saying so.
"""

from marketpipe.journal.base import (
    MAX_RECORDS,
    Damage,
    Durability,
    Journal,
    JournalReader,
    Repair,
)
from marketpipe.journal.memory import MemoryJournal, MemoryJournalReader
from marketpipe.journal.reading import SqliteJournalReader
from marketpipe.journal.sqlite import SEGMENT_BYTES, SqliteJournal

__all__ = [
    "MAX_RECORDS",
    "SEGMENT_BYTES",
    "Damage",
    "Durability",
    "Journal",
    "JournalReader",
    "MemoryJournal",
    "MemoryJournalReader",
    "Repair",
    "SqliteJournal",
    "SqliteJournalReader",
]
