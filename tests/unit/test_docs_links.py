"""What the documents point at exists: pages, headings, modules, tests, navigation."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import docskit

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_MEMBER = re.compile(r"`(marketpipe[\w.]*):(\w[\w.]*)`")
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_PATH = re.compile(r"`((?:src|docs|bench|tools)/[\w./-]+)`")

BY_PAGE = pytest.mark.parametrize("page", docskit.PAGES, ids=docskit.name)


def resolve(module: str, member: str) -> object:
    """Import what a page calls ``module:member``."""
    found: object = import_module(module)
    for part in member.split("."):
        found = getattr(found, part)
    return found


@BY_PAGE
def test_docs_links_lead_to_pages_and_headings(page: Path) -> None:
    for link in _LINK.findall(docskit.prose(page)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        # The benchmarks write their page, which a fresh clone may lack.
        if target == docskit.DOCS / "benchmarks.md" and not anchor:
            continue
        assert target.is_file(), f"{docskit.name(page)} links to {link}"
        assert not anchor or anchor in docskit.anchors(target), f"{docskit.name(page)}: {link}"


@BY_PAGE
def test_docs_members_of_modules_can_be_imported(page: Path) -> None:
    for module, member in _MEMBER.findall(docskit.prose(page)):
        assert resolve(module, member) is not None, f"{docskit.name(page)}: {module}:{member}"


@BY_PAGE
def test_docs_tests_and_files_that_are_named_exist(page: Path) -> None:
    text = docskit.prose(page)
    for path, test in _TEST.findall(text):
        source = docskit.ROOT / path
        assert source.is_file(), f"{docskit.name(page)} names {path}"
        assert not test or re.search(rf"^def {test}\(", source.read_text(), re.MULTILINE), (
            f"{docskit.name(page)} names {test}, which is not in {path}"
        )
    for path in _PATH.findall(text):
        assert (docskit.ROOT / path).exists(), f"{docskit.name(page)} names {path}"


def test_docs_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r": ([\w/-]+\.md)$", (docskit.ROOT / "mkdocs.yml").read_text(), re.M))
    pages = {str(page.relative_to(docskit.DOCS)) for page in docskit.DOCS.rglob("*.md")}
    assert pages | {"benchmarks.md"} == listed


def test_docs_life_of_a_tick_has_eight_steps_each_with_a_place_in_the_code() -> None:
    text = docskit.section(docskit.DOCS / "architecture.md", "Life of a tick")
    steps = re.split(r"^(\d)\. ", text, flags=re.MULTILINE)[1:]
    assert steps[::2] == list("12345678")
    for step in steps[1::2]:
        assert [callable(resolve(*found)) for found in _MEMBER.findall(step)], step


def test_docs_packages_are_those_of_the_source() -> None:
    source = docskit.ROOT / "src/marketpipe"
    packages = {path.parent.name for path in source.glob("*/__init__.py")}
    (table,) = docskit.tables(docskit.section(docskit.DOCS / "architecture.md", "Packages"))[:1]
    assert {row[0].strip("`") for row in table[1:]} == packages
    sources = {path.parent.name for path in source.glob("sources/*/__init__.py")}
    assert sources <= docskit.codes(docskit.section(docskit.DOCS / "architecture.md", "sources"))


def test_docs_decisions_are_short_and_say_what_holds_them() -> None:
    for page in (docskit.DOCS / "decisions").glob("*.md"):
        text = page.read_text("utf-8")
        assert text.count("\n") < 60, page.name
        assert re.match(rf"# {int(page.name[:4])}\. ", text), page.name
        assert "Status: " in text, page.name
