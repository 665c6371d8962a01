"""The form of a backup: a folder, or the same packed as ``.tar.zst``, with a list of its files."""

import hashlib
import io
import json
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import zstandard

from marketpipe.errors import CorruptError, NewerVersionError, UsageError

FORMAT: Final = 1
MANIFEST: Final = "backup.json"

_SUFFIX: Final = ".tar.zst"
_COPY_BYTES: Final = 1 << 20


def is_packed(path: Path) -> bool:
    """Whether a backup of this name is one file."""
    return path.name.endswith(_SUFFIX)


class Packing(ABC):
    """Writes a backup; make it with `Packing.open`.

    Attributes
    ----------
    files : size in bytes and SHA-256 of each file so far, by its name in the backup
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, str]] = {}

    @classmethod
    @contextmanager
    def open(cls, output: Path, staged: Path) -> Iterator["Packing"]:
        """Write to a folder or a packed file; it gets its name if all went well.

        Parameters
        ----------
        staged : a folder beside the output, which becomes it unless it is packed
        """
        if not is_packed(output):
            yield _Folder(staged)
            staged.rename(output)
            return
        unready = output.with_name(f".{output.name}.writing")
        try:
            with (
                unready.open("wb") as file,
                zstandard.ZstdCompressor(level=3).stream_writer(file) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
            ):
                yield _Tar(tar)
            unready.rename(output)
        finally:
            unready.unlink(missing_ok=True)

    def add(self, path: Path, name: str) -> None:
        """Add a file."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = self._write(file, name, size)
        self.files[name] = (size, digest)

    def finish(self, manifest: bytes) -> None:
        """Write the list of the files, as the last one."""
        self._write(io.BytesIO(manifest), MANIFEST, len(manifest))

    @abstractmethod
    def _write(self, file: IO[bytes], name: str, size: int) -> str:
        """Write a file under a name, and return the SHA-256 of its bytes."""


class _Folder(Packing):
    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    def _write(self, file: IO[bytes], name: str, size: int) -> str:  # noqa: ARG002
        target = self._root / name
        if target.exists():  # staged here already
            return _copy(file, None)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            return _copy(file, out)


class _Tar(Packing):
    def __init__(self, tar: tarfile.TarFile) -> None:
        super().__init__()
        self._tar = tar

    def _write(self, file: IO[bytes], name: str, size: int) -> str:
        info = tarfile.TarInfo(name)
        info.size = size
        hashing = _Hashing(file)
        self._tar.addfile(info, hashing)
        return hashing.digest.hexdigest()


class _Hashing(io.RawIOBase):
    """Reads a file and hashes what is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _copy(file: IO[bytes], out: IO[bytes] | None) -> str:
    """Copy a file, or only read it; return its SHA-256."""
    digest = hashlib.sha256()
    while block := file.read(_COPY_BYTES):
        digest.update(block)
        if out is not None:
            out.write(block)
    return digest.hexdigest()


def unpack(source: Path, target: Path) -> int:
    """Write a backup's files below an empty folder, and hold them against its list.

    Returns
    -------
    How many files there are.

    Raises
    ------
    UsageError
        If there is no backup of that name.
    CorruptError
        If it is damaged or incomplete.
    NewerVersionError
        If a newer version of MarketPipe wrote it.
    """
    if not source.exists():
        raise UsageError(f"input: '{source}' does not exist; name a backup's file or folder")
    found: dict[str, tuple[int, str]] = {}
    manifest = b""
    try:
        for name, file in _members(source):
            if name == MANIFEST:
                manifest = file.read()
                continue
            path = target / _safe(name, source)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                digest = _copy(file, out)
            found[name] = (path.stat().st_size, digest)
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as problem:
        raise CorruptError(
            f"input: '{source}' cannot be unpacked: {problem}; take another backup"
        ) from problem
    _check(source, manifest, found)
    return len(found)


def _members(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    yield str(path.relative_to(source)), file
        return
    with (
        source.open("rb") as packed,
        zstandard.ZstdDecompressor().stream_reader(packed) as plain,
        tarfile.open(fileobj=plain, mode="r|") as tar,
    ):
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise tarfile.TarError(f"'{member.name}' is no file")
            yield member.name, content


def _safe(name: str, source: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise CorruptError(f"input: '{source}' holds '{name}', which leads out of the folder")
    return path


def _check(source: Path, manifest: bytes, found: dict[str, tuple[int, str]]) -> None:
    try:
        facts: Any = json.loads(manifest)
        written = int(facts["format"])
        noted = {name: (int(size), str(sha)) for name, (size, sha) in facts["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CorruptError(
            f"input: '{source}' has no readable {MANIFEST}: it is no backup, or cut short"
        ) from None
    if written > FORMAT:
        raise NewerVersionError(
            f"input: '{source}' has format {written}; this version of MarketPipe knows {FORMAT}; "
            "use the version that wrote it"
        )
    for name in sorted({*noted, *found}):
        if noted.get(name) != found.get(name):
            what = "is missing" if name not in found else "is not as it was written"
            raise CorruptError(f"input: '{source}': file '{name}' {what}; take another backup")
