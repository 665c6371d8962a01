"""Where compiled kernels are cached, so that they are compiled once and not at every start.

Numba caches beside the source, else in the user's cache folder, and refuses to import where it
can write to neither. Then a folder below the data folder's usual place serves, or, if even
that cannot be, one that lives as long as the process.

Numba looks only at a function's own file when it judges a cached one. Kernels call and inline
one another across files, so a change to one would leave stale callers: all of them are dropped
when any source has changed.
"""

import os
import tempfile
from hashlib import blake2b
from pathlib import Path

KERNELS = ("bars", "normalize", "sources/csvfile", "sources/numbers")
SOURCES = (*KERNELS, "domain")
FALLBACK = Path("data/.cache/kernels")
STAMP = "kernels.stamp"


def settle_cache() -> None:
    """Choose a cache folder if Numba would find none; ``NUMBA_CACHE_DIR`` always wins."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return
    package = Path(__file__).parent
    if all(_writable(package / folder / "__pycache__") for folder in KERNELS):
        drop_stale(package)
        return
    if _writable(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"):
        return
    chosen = FALLBACK.absolute()
    os.environ["NUMBA_CACHE_DIR"] = str(
        chosen if _writable(chosen) else tempfile.mkdtemp(prefix="marketpipe-kernels-")
    )


def drop_stale(package: Path) -> None:
    """Remove a package's compiled kernels if any source has changed since they were made."""
    state = blake2b(digest_size=16)
    for folder in SOURCES:
        for path in sorted((package / folder).glob("*.py")):
            about = path.stat()
            state.update(f"{path.name} {about.st_mtime_ns} {about.st_size}\n".encode())
    now = state.hexdigest()
    stamp = package / KERNELS[0] / "__pycache__" / STAMP
    if stamp.is_file() and stamp.read_text("ascii") == now:
        return
    for folder in KERNELS:
        for path in (package / folder / "__pycache__").glob("*.nb[ic]"):
            path.unlink(missing_ok=True)
    stamp.write_text(now, "ascii")


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, RuntimeError):
        return False
