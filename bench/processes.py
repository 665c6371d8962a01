"""Contenders in processes of their own: they are asked by lines of JSON, and answer by such."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from marketpipe.domain.closing import Closing

T = TypeVar("T")
Q = TypeVar("Q")


class Child(Closing):
    """A module that runs as a process of its own; it ends with the context.

    Parameters
    ----------
    words : name of the module, and its arguments
    """

    def __init__(self, *words: str) -> None:
        self._name = " ".join(words)
        self._process = subprocess.Popen(
            [sys.executable, "-m", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def close(self) -> None:
        """End the process; safe to call twice."""
        self._process.terminate()
        self._process.communicate()

    def say(self, what: Any) -> None:
        """Write a line."""
        if self._process.stdin is not None:
            self._process.stdin.write(msgspec.json.encode(what) + b"\n")
            self._process.stdin.flush()

    def hear(self, form: type[T]) -> T:
        """Wait for the next line."""
        line = self._process.stdout.readline() if self._process.stdout is not None else b""
        if not line:
            raise RuntimeError(f"{self._name} ended; its words are above")
        return msgspec.json.decode(line, type=form)


def say(what: Any) -> None:
    """Write a line to who asked."""
    print(msgspec.json.encode(what).decode(), flush=True)


def answer(form: type[Q], work: Callable[[Q], Any]) -> None:
    """Answer each line of standard input."""
    for line in sys.stdin:
        say(work(msgspec.json.decode(line, type=form)))
