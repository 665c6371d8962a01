"""The documents as data: their pages, blocks, links and tables, and a way to run their examples."""

import contextlib
import io
import re
import shlex
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from marketpipe.cli.main import run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"`([\w./-]+)`:\s*\Z")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, its line, and the file name that introduces it."""

    language: str
    text: str
    line: int
    file: str | None


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block, what the page shows of its output, the code it names."""

    words: tuple[str, ...]
    shown: tuple[str, ...]


def name(page: Path) -> str:
    """Return a page's path below the project."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """Return a page's fenced blocks; ``file`` is the name before a colon that introduces one."""
    text = page.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        named = _NAMED.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match[1], match[2], line, named[1] if named else None))
    return found


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def commands(block: Block) -> list[Command]:
    """Split a console block at its prompts."""
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not parts[0].strip(), f"line {block.line}: output before the first command"
    found = []
    for part in parts[1:]:
        first, *shown = part.rstrip("\n").split("\n")
        found.append(Command(tuple(shlex.split(first)), tuple(shown)))
    return found


def agrees(shown: tuple[str, ...], printed: list[str]) -> bool:
    """Tell whether output is as shown; ``…`` stands for any text, alone on a line for any lines.

    A line that holds more of its own (examples of a finding end in ``, …``) agrees as well.
    """
    if not shown:
        return not printed
    if shown[0] == "…":
        return any(agrees(shown[1:], printed[k:]) for k in range(len(printed) + 1))
    return bool(printed) and _line(shown[0], printed[0]) and agrees(shown[1:], printed[1:])


def _line(shown: str, printed: str) -> bool:
    pattern = re.sub(r"([*?[])", r"[\1]", shown).replace("…", "*")
    return fnmatchcase(printed.rstrip(), pattern)


def call(words: tuple[str, ...]) -> tuple[int, list[str]]:
    """Run a `marketpipe` command in this process; return its exit code and lines."""
    before = sys.argv
    sys.argv = list(words)
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.argv = before
    return code, (out.getvalue() + err.getvalue()).splitlines()


def tables(text: str) -> list[list[list[str]]]:
    """Return the Markdown tables of a text as rows of cells, heads first, rules left out."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not inside:
            found.append([])
        inside = True
        if any(set(cell) - set("-: ") for cell in cells) or not any(cells):
            found[-1].append(cells)
    return found


def section(page: Path, title: str) -> str:
    """Return the text below a heading, up to the next one of its rank or a higher one."""
    text = prose(page)
    match = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert match, f"{name(page)} has no heading '{title}'"
    end = re.search(rf"^#{{1,{len(match[1])}}} ", text[match.end() :], re.MULTILINE)
    return text[match.end() : match.end() + end.start() if end else None]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as MkDocs makes them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", head.replace("`", "")).strip().lower() for head in heads)
    return {re.sub(r"[-\s]+", "-", head) for head in plain}


def codes(text: str) -> set[str]:
    """Return what stands in backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))
