"""The command line, as a user meets it, in this process (a start-up costs a second)."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str

    def line(self, name: str) -> str:
        """Return what follows a name at the start of an output line."""
        found = [line for line in self.out.splitlines() if line.startswith(f"{name} ")]
        assert len(found) == 1, self.out
        return found[0].removeprefix(name).strip()


Command = Callable[..., Done]


@pytest.fixture
def marketpipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Run `marketpipe` with the given words in an empty folder."""
    from marketpipe.cli.main import run

    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["marketpipe", *map(str, words)])
        code = 0
        try:
            run()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Done(code, out, err)

    return call
