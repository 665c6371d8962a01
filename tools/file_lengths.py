"""Fails if a Python file is too long to be read in one sitting."""

import sys
from pathlib import Path

LIMIT = 400
FOLDERS = ("src", "tests", "bench", "tools")


def main() -> int:
    """Name the files over the limit; return the exit code."""
    long = [
        (path, lines)
        for folder in FOLDERS
        for path in sorted(Path(folder).rglob("*.py"))
        if (lines := len(path.read_text("utf-8").splitlines())) > LIMIT
    ]
    for path, lines in long:
        print(f"{path}: {lines} lines, at most {LIMIT}; is a noun asking to leave?")
    return 1 if long else 0


if __name__ == "__main__":
    sys.exit(main())
