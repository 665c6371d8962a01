"""Progress, on a real pseudo-terminal: it is shown, and always taken away again."""

import os
import pty
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"
HEAD = "symbol,ts_ns,price,size\n"


def on_terminal(words: list[str], standard_input: bytes | None = None) -> tuple[int, bytes]:
    """Run `marketpipe` with standard error on a terminal; return its code and what was shown."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm"}
    command = [sys.executable, "-m", "marketpipe", *words]
    shown: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # raised when the other end is closed and all is read
            while more := os.read(ours, 65_536):
                shown.append(more)

    reader = threading.Thread(target=read)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=theirs, env=env
    ) as process:
        os.close(theirs)
        reader.start()
        process.communicate(standard_input, timeout=60)
    reader.join()
    os.close(ours)
    return process.returncode, b"".join(shown)


@pytest.mark.parametrize("piped", [False, True])
def test_progress_on_a_terminal_is_shown_and_the_cursor_comes_back(
    tmp_path: Path, piped: bool
) -> None:
    text = HEAD + "".join(f"A,{k},1,1\n" for k in range(1, 2001))
    path = tmp_path / "t.csv"
    path.write_text(text)
    name = "-" if piped else str(path)
    code, shown = on_terminal(["replay", "--csv", name], text.encode() if piped else None)
    assert code == 0
    assert b"2,000" in shown
    assert shown.count(HIDE) == shown.count(SHOW) == 1


def test_progress_of_input_that_fails_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"no frame")
    code, shown = on_terminal(["replay", "--csv", str(path)])
    assert code == 2
    assert shown.count(HIDE) == shown.count(SHOW) == 1
    assert b"t.csv.zst" in shown


def test_progress_quiet_shows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{HEAD}A,1,1,1\n")
    assert on_terminal(["replay", "--csv", str(path), "--quiet"]) == (0, b"")
