"""What every file source shares: its protocol, its counts, and a bounded, unpacking byte stream."""

import sys
import zlib
from collections.abc import Iterator
from os import PathLike, fspath, fstat
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, Protocol, TypeAlias

import pyarrow as pa
import zstandard

from marketpipe.domain.batches import (
    BATCH_ROWS,
    RAW_CUT_BYTES,
    Batch,
    SourceCounts,
    TickKind,
    bad_row,
)
from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.errors import CorruptError, InputError, UsageError

__all__ = [
    "BATCH_ROWS",
    "RAW_CUT_BYTES",
    "ByteStream",
    "MessageSource",
    "PathOrStream",
    "Source",
    "SourceCounts",
    "bad_row",
    "checked_defaults",
    "checked_symbols",
]

PathOrStream: TypeAlias = str | PathLike[str] | BinaryIO

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_READ_BYTES = 1 << 16
# One zstd block of 4 bytes can unfold to 128 KiB, so the input is fed in small pieces.
_ZSTD_FEED_BYTES = 1 << 10
_UNPACK_BYTES = 1 << 18


class Source(Protocol):
    """A file, or anything like one, that can be read once, in order."""

    @property
    def kind(self) -> TickKind:
        """Whether the batches hold trades or quotes."""

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in file order; raises `marketpipe.errors.InputError`."""

    def progress(self) -> tuple[int, int | None]:
        """Return (bytes done, bytes in all or None where unknown), as stored, compressed."""

    def counts(self) -> SourceCounts:
        """Return what became of the rows read so far."""

    def describe(self) -> str:
        """Say in one line what is read."""

    def close(self) -> None:
        """Release the file; safe to call twice."""


class MessageSource(Protocol):
    """What gives messages as a live feed does, ready for a journal; it can be read once."""

    @property
    def source(self) -> str:
        """The vendor, or what stands for one: it chooses the parser."""

    @property
    def journal_id(self) -> str:
        """The journal that the records belong to."""

    def records(self) -> Iterator[pa.RecordBatch]:
        """Yield batches of `marketpipe.domain.records.RECORDS`; ``ts_recv`` never steps back.

        Raises
        ------
        InputError
            What is read cannot be read on; all that came before has been yielded.
        """

    def close(self) -> None:
        """Release what is held; safe to call twice."""


class ByteStream:
    """Bytes of a file or stream, unpacked if they are gzip or zstd, in bounded memory.

    Parameters
    ----------
    origin : a path, ``-`` for standard input, or a binary stream (which is not closed)

    Raises
    ------
    InputError
        The file cannot be opened.
    CorruptError
        It is named ``.gz`` or ``.zst`` and is not that.
    """

    def __init__(self, origin: PathOrStream) -> None:
        self._owned = False
        if isinstance(origin, (str, PathLike)):
            self.name = "standard input" if fspath(origin) == "-" else fspath(origin)
            self._raw = self._open(fspath(origin))
        else:
            self.name = str(getattr(origin, "name", "<stream>"))
            self._raw = origin
        self.total_bytes = _regular_size(self._raw)
        self.done_bytes = 0
        self._ready = memoryview(b"")
        self._failure: CorruptError | None = None
        try:
            head = self._read_raw()
            while 0 < len(head) < len(_ZSTD_MAGIC) and (more := self._read_raw()):
                head += more
            self._unpacker = self._choose(head)
        except BaseException:
            self.close()
            raise

    def _open(self, name: str) -> BinaryIO:
        if name == "-":
            return sys.stdin.buffer
        try:
            raw = Path(name).open("rb", buffering=0)  # noqa: SIM115  # closed by close()
        except OSError as error:
            raise InputError(f"{name}: cannot be opened: {error.strerror or error}") from error
        self._owned = True
        return raw

    def _read_raw(self) -> bytes:
        try:
            data = self._raw.read(_READ_BYTES)
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read: {error.strerror or error}") from error
        self.done_bytes += len(data)
        return data

    def _choose(self, head: bytes) -> "_Plain | _Gzip | _Zstd":
        if head.startswith(_GZIP_MAGIC):
            return _Gzip(head)
        if head.startswith(_ZSTD_MAGIC):
            return _Zstd(head)
        for suffix, kind in ((".gz", "gzip"), (".zst", "zstd")):
            if self.name.endswith(suffix) and head:
                raise CorruptError(
                    f"{self.name}: named {suffix} but does not start as {kind} does: the first "
                    f"bytes were {head[:4].hex(' ')}. Rename the file or compress it again"
                )
        return _Plain(head)

    def readinto(self, target: memoryview) -> int:
        """Fill ``target`` with 1 or more unpacked bytes; 0 means the end.

        Raises
        ------
        CorruptError
            The packed bytes end early or do not decode. All that came before the damage has
            been handed out by then.
        """
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            try:
                data = self._unpacker.next(self._read_raw)
            except (zlib.error, zstandard.ZstdError) as error:
                self._fail(f"does not decode ({error})")
                continue
            except EOFError:
                self._fail("ends early")
                continue
            if data is None:
                return 0
            self._ready = memoryview(data)
        count = min(len(target), len(self._ready))
        target[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _fail(self, what: str) -> None:
        self._failure = CorruptError(
            f"{self.name}: the {self._unpacker.kind} data {what}, at byte {self.done_bytes:,} of "
            "the file. Fetch or compress the file again"
        )

    @property
    def packing(self) -> str:
        """``plain``, ``gzip`` or ``zstd``."""
        return self._unpacker.kind

    def close(self) -> None:
        """Close the file if this object opened it."""
        if self._owned:
            self._raw.close()


class _Plain:
    kind = "plain"

    def __init__(self, head: bytes) -> None:
        self._head = head

    def next(self, read: "_Read") -> bytes | None:
        data, self._head = self._head or read(), b""
        return data or None


class _Gzip:
    kind = "gzip"

    def __init__(self, head: bytes) -> None:
        self._pending = head
        self._inflate = zlib.decompressobj(wbits=31)

    def next(self, read: "_Read") -> bytes | None:
        if self._inflate.eof:
            # Members may follow one another, with zero padding after the last.
            rest = self._pending.lstrip(b"\0")
            while not rest:
                if not (more := read()):
                    return None
                rest = more.lstrip(b"\0")
            self._pending = rest
            self._inflate = zlib.decompressobj(wbits=31)
        data = self._pending or read()
        out = self._inflate.decompress(data, _UNPACK_BYTES)
        if not data and not out and not self._inflate.eof:
            raise EOFError
        self._pending = self._inflate.unused_data or self._inflate.unconsumed_tail
        return out


class _Zstd:
    kind = "zstd"

    def __init__(self, head: bytes) -> None:
        self._pending = memoryview(head)
        self._frame = zstandard.ZstdDecompressor().decompressobj(write_size=_UNPACK_BYTES)

    def next(self, read: "_Read") -> bytes | None:
        if not self._pending:
            self._pending = memoryview(read())
        if not self._pending:
            if self._frame.eof:
                return None
            raise EOFError
        if self._frame.eof:
            self._frame = zstandard.ZstdDecompressor().decompressobj(write_size=_UNPACK_BYTES)
        piece, self._pending = self._pending[:_ZSTD_FEED_BYTES], self._pending[_ZSTD_FEED_BYTES:]
        out = self._frame.decompress(piece)
        if self._frame.eof and self._frame.unused_data:
            self._pending = memoryview(self._frame.unused_data + bytes(self._pending))
        return out


class _Read(Protocol):
    def __call__(self) -> bytes: ...


def _regular_size(raw: BinaryIO) -> int | None:
    try:
        status = fstat(raw.fileno())
    except (OSError, AttributeError):
        return None
    return status.st_size if S_ISREG(status.st_mode) else None


def checked_symbols(symbols: frozenset[str] | None) -> frozenset[str] | None:
    """Return the symbols asked for; a malformed one is a `marketpipe.errors.UsageError`."""
    for symbol in sorted(symbols or ()):
        if not is_valid_symbol(symbol):
            raise UsageError(
                f"symbols: was '{symbol}'; a symbol has 1 to 32 characters of A-Z a-z 0-9 and "
                ". / _ : = ^ -, such as AAPL, BRK.B or BTC/USD"
            )
    return symbols


def checked_defaults(source: str, feed: str) -> None:
    """Refuse names of a source (required) or feed (may be empty) that are not valid ones."""
    for what, text in (("default_source", source), ("default_feed", feed)):
        if not is_valid_symbol(text) and (text or what == "default_source"):
            raise UsageError(
                f"{what}: was '{text}'; a name has 1 to 32 characters of A-Z a-z 0-9 and "
                ". / _ : = ^ -, such as alpaca or sip"
            )
