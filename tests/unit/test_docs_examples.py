"""Every example of the documents runs, and prints what the page says it prints."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import docskit
from docskit import Block

RUNNABLE = ("console", "python")
WITH_EXAMPLES = [
    page for page in docskit.PAGES if any(b.language in RUNNABLE for b in docskit.blocks(page))
]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=docskit.name)
def test_docs_examples_run_and_print_what_is_shown(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From top to bottom in one folder, with the files that the page shows under a name."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    printed: list[str] | None = None
    for block in docskit.blocks(page):
        if printed is not None:
            assert block.language == "text", f"line {block.line}: what is printed is not shown"
            assert docskit.agrees(tuple(block.text.splitlines()), printed), "\n".join(printed)
            printed = None
        elif block.language == "console":
            _run_console(page, block)
        elif block.language == "python":
            printed = _run_python(page, block, names)
        elif block.file is not None:
            Path(block.file).write_text(block.text, "utf-8")
    assert printed is None, f"{docskit.name(page)}: what the last block prints is not shown"


def _run_console(page: Path, block: Block) -> None:
    code = 0
    for command in docskit.commands(block):
        where = f"{docskit.name(page)} line {block.line}: {' '.join(command.words)}"
        if command.words[0] == "marketpipe":
            assert code == 0, f"{where}: the command before it exited with {code}, unsaid"
            code, lines = docskit.call(command.words)
        elif command.words == ("echo", "$?"):
            code, lines = 0, [str(code)]
        else:
            assert command.words[0] == "cat", f"{where}: this test cannot run it"
            lines = Path(command.words[1]).read_text("utf-8").splitlines()
        assert docskit.agrees(command.shown, lines), f"{where}\n" + "\n".join(lines)
    assert code == 0, f"{docskit.name(page)} line {block.line}: ended with {code}, unsaid"


def _run_python(page: Path, block: Block, names: dict[str, object]) -> list[str] | None:
    out = io.StringIO()
    source = "\n" * block.line + block.text
    with contextlib.redirect_stdout(out):
        exec(compile(source, docskit.name(page), "exec"), names)
    return out.getvalue().splitlines() or None


def test_docs_agreement_of_output_is_strict_but_for_ellipses() -> None:
    assert docskit.agrees(("a", "…", "d 1…"), ["a", "b", "c", "d 12"])
    assert docskit.agrees(("…",), [])
    assert docskit.agrees(("x [1] *",), ["x [1] *"])
    assert not docskit.agrees(("a",), ["a", "b"])
    assert not docskit.agrees(("a", "b"), ["a"])
    assert not docskit.agrees(("x [1]",), ["x 1"])


def test_docs_make_targets_exist() -> None:
    """Every ``make TARGET`` that a page tells the reader to type is in the Makefile."""
    targets = set(re.findall(r"^(\w+):", (docskit.ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in docskit.PAGES:
        text = page.read_text("utf-8")
        named = set(re.findall(r"`make (\w+)`", text)) | set(
            re.findall(r"^(?:\$ )?make (\w+)$", text, re.MULTILINE)
        )
        assert named <= targets, docskit.name(page)
