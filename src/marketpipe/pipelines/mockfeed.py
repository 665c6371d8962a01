"""`MockFeed`: a file as a feed that can be taken up again where it stopped."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import pyarrow as pa

from marketpipe.domain.batches import StreamKey
from marketpipe.domain.symbols import near_first
from marketpipe.domain.units import NANOS, format_ns
from marketpipe.errors import CorruptError, UsageError
from marketpipe.journal import Journal
from marketpipe.lake import LakeTable
from marketpipe.pipelines.controls import last_control
from marketpipe.pipelines.facts import Facts, check_settings, with_facts
from marketpipe.pipelines.intake import Intake
from marketpipe.sources.alpaca import AlpacaParser, symbol_reader
from marketpipe.sources.base import MessageSource
from marketpipe.sources.csvfile import CsvParser, CsvSource
from marketpipe.sources.mock.messages import CsvMessages
from marketpipe.sources.parsed import MessageParser
from marketpipe.sources.recorded import Recording

Form: TypeAlias = Literal["csv", "frames"]

_PARSERS: Final[Mapping[str, Callable[[tuple[StreamKey, ...], bytes], MessageParser]]] = {
    "alpaca": AlpacaParser
}
_HASH_BYTES: Final = 1 << 20

LEAD_BATCHES: Final = 16


class Place(NamedTuple):
    """Where a feed goes on: the number of its connection, and its records that are there."""

    conn_id: int
    skip: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MockFeed:
    """A tick CSV or a recording of frames, replayed into a journal as a live feed would be.

    The control records of its connection carry the SHA-256 of the file, how it is read, and the
    settings of the pipeline; so a journal itself says what of a file it has. Another file that
    begins where the one before ended follows as a further connection.

    Parameters
    ----------
    path : the file; standard input cannot be read twice, so it is refused
    form : ``csv`` (a tick CSV) or ``frames`` (``<ts_recv ns> <frame>`` a line)
    source, feed : of rows that name none, or of the recording; ``source`` picks its parser
    symbols : only these lines of a CSV; None takes all
    """

    path: Path
    form: Form
    source: str
    feed: str = ""
    symbols: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if str(self.path) == "-":
            raise UsageError(
                f"{self.form}: was '-'; a stream is taken up again where it stopped, for which "
                "standard input cannot be read twice; save it to a file"
            )
        if self.form == "frames" and self.source not in _PARSERS:
            raise UsageError(
                f"source: was '{self.source}'; frames of these can be read: {', '.join(_PARSERS)}"
            )
        if self.form == "frames" and self.symbols is not None:
            raise UsageError(
                f"symbols: was '{','.join(sorted(self.symbols))}'; frames go into the journal "
                "whole, byte for byte; leave it out"
            )

    @property
    def journal_id(self) -> str:
        """Name of the journal: apart from that of a live feed of the same source."""
        return f"mock-{self.source}"

    @property
    def make_parser(self) -> Callable[[tuple[StreamKey, ...], bytes], MessageParser]:
        """What makes the parser of the records."""
        return CsvParser if self.form == "csv" else _PARSERS[self.source]

    @property
    def lead(self) -> int:
        """A file waits: how many batches the journal may be ahead of what is derived of it."""
        return LEAD_BATCHES

    def total_bytes(self) -> int | None:
        """Return the size of the file; None where it is packed, or not to be had."""
        packed = self.path.suffix in (".gz", ".zst")
        return None if packed or not self.path.is_file() else self.path.stat().st_size

    async def run(self, intake: Intake) -> bool:
        """Append what the journal does not have yet; return whether the file came to its end.

        Raises
        ------
        UsageError
            If the file does not fit what the journal holds, or cannot be opened.
        InputError
            If it cannot be read on; all that came before is in the journal.
        """
        facts = await asyncio.to_thread(self.facts, intake.settings)
        place = await asyncio.to_thread(self.place, facts, intake.journal, intake.raw)
        if place is None:
            return True
        batches = self.records(place, facts, intake.journal.last_ts_recv)
        while not intake.stopped.is_set():
            batch = await asyncio.to_thread(next, batches, None)
            if batch is None:
                return True
            await intake.append(batch)
        return False

    def facts(self, settings: Facts) -> dict[str, Any]:
        """Return what the control records say of the file and of the pipeline's settings."""
        chosen = None if self.symbols is None else sorted(self.symbols)
        return {
            "input": {
                "sha256": _sha256(self.path),
                "form": self.form,
                "source": self.source,
                "feed": self.feed,
                "symbols": chosen,
            },
            "settings": dict(settings),
        }

    def absent(self) -> tuple[str, ...]:
        """Return the wanted symbols that no readable row is of; reads on until all have come.

        Raises
        ------
        UsageError
            If the file has rows, and of none of them.
        InputError
            If it cannot be opened, or has a bad header.
        """
        if self.symbols is None:
            return ()
        found, whole = self._held(self.symbols)
        absent = tuple(sorted(self.symbols - found))
        if not whole or len(absent) < len(self.symbols) or not (held := self._held(None)[0]):
            return absent if whole else ()
        raise UsageError(
            f"symbols: was '{','.join(absent)}'; {self.path} holds no row of that name; valid are "
            f"{near_first(held, absent)}"
        )

    def _held(self, wanted: frozenset[str] | None) -> tuple[frozenset[str], bool]:
        """Return the symbols of a CSV (until all wanted ones have come), and if it was readable."""
        found = frozenset[str]()
        with CsvSource(self.path, symbols=wanted) as source:
            try:
                for batch in source.batches():
                    found = frozenset(key.symbol for key in batch.dictionaries.streams)
                    if found == wanted:
                        break
            except CorruptError:  # what came before the damage will be taken in
                return found, False
        return found, True

    def place(self, facts: Facts, journal: Journal, raw: LakeTable) -> Place | None:
        """Find out what of the file is in a journal; None: all of it.

        Raises
        ------
        UsageError
            If the journal stopped within another file, holds another feed, or was made with
            other settings; the message says how to go on.
        """
        reader = journal.reader()
        try:
            last = last_control(reader, raw)
        finally:
            reader.close()
        if last is None:
            return Place(0, 0)
        offset, conn_id, payload = last
        known = json.loads(payload)
        self._check(known, facts, journal.journal_id)
        is_mine = known["input"] == facts["input"]
        if known["event"] == "connected":
            if not is_mine:
                raise UsageError(
                    f"{self.path}: journal {journal.journal_id} stopped within another file "
                    f"('{known.get('file') or known.get('recording')}'); stream that one to its "
                    "end first, or take another --data-dir"
                )
            return Place(conn_id, journal.next_offset - offset)
        return None if is_mine else Place(conn_id + 1, 0)

    def _check(self, known: Facts, facts: Facts, journal_id: str) -> None:
        if "input" not in known or "settings" not in known:
            raise UsageError(
                f"{self.path}: journal {journal_id} holds a feed that is no mock; take another "
                "--data-dir"
            )
        check_settings(known, facts, journal_id)

    def records(
        self, place: Place, facts: Facts, not_before_ns: int | None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the records that the journal does not have yet.

        Parameters
        ----------
        not_before_ns : latest time of receipt in the journal; None where it is empty

        Raises
        ------
        InputError
            If the file cannot be read on; all that came before has been yielded.
        UsageError
            If the file begins before the journal ends, so that all of it would be late.
        """
        skip = place.skip
        source = self._source(place.conn_id)
        try:
            for batch in source.records():
                begins_ns = int(batch["ts_recv"][0].as_py())
                # 0 stands for a time that is not known yet
                if place.skip == 0 and not_before_ns is not None and begins_ns:
                    self._check_start(begins_ns, not_before_ns)
                    not_before_ns = None
                if skip < len(batch):
                    yield with_facts(batch, facts).slice(skip)
                skip = max(0, skip - len(batch))
        finally:
            source.close()

    def _source(self, conn_id: int) -> MessageSource:
        if self.form == "csv":
            return CsvMessages(
                self.path,
                source=self.source,
                feed=self.feed,
                journal_id=self.journal_id,
                symbols=self.symbols,
                conn_id=conn_id,
                final_clock=True,
            )
        return Recording(
            self.path,
            source=self.source,
            feed=self.feed,
            journal_id=self.journal_id,
            symbol_of=symbol_reader("json"),
            conn_id=conn_id,
            final_clock=True,
        )

    def _check_start(self, first_ns: int, not_before_ns: int) -> None:
        # The last clock tick of a file comes a second after its last message.
        if first_ns < not_before_ns - NANOS:
            raise UsageError(
                f"{self.path}: begins at {format_ns(first_ns)}, before the journal's end at "
                f"{format_ns(not_before_ns)}, so all of it would be late; stream files in the "
                "order of their times, or take another --data-dir"
            )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_HASH_BYTES):
                digest.update(block)
    except OSError as error:
        raise UsageError(
            f"'{path}' cannot be read: {error.strerror or error}; name a file that can"
        ) from None
    return digest.hexdigest()
