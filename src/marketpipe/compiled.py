"""Where compiled kernels are cached, so that they are compiled once and not at every start.

Numba caches beside the source, else in the user's cache folder, and refuses to import where it
can write to neither. Then a folder below the data folder's usual place serves, or, if even
that cannot be, one that lives as long as the process.
"""

import os
import tempfile
from pathlib import Path

KERNELS = ("bars", "normalize", "sources/csvfile")
FALLBACK = Path("data/.cache/kernels")


def settle_cache() -> None:
    """Choose a cache folder if Numba would find none; ``NUMBA_CACHE_DIR`` always wins."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return
    package = Path(__file__).parent
    if all(_writable(package / folder / "__pycache__") for folder in KERNELS):
        return
    if _writable(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"):
        return
    chosen = FALLBACK.absolute()
    os.environ["NUMBA_CACHE_DIR"] = str(
        chosen if _writable(chosen) else tempfile.mkdtemp(prefix="marketpipe-kernels-")
    )


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, RuntimeError):
        return False
