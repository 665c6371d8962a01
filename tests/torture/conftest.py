"""A forge for all tests of crashes, and the page that `make torture` writes its figures to."""

import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from crashkit import End, Forge, Kept, Life, reference

PAGE = Path(__file__).parents[2] / "docs" / "torture.md"
_TABLE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end -->)", re.DOTALL)

Reference = tuple[Life, Kept, End]


@pytest.fixture(scope="session")
def forge() -> Iterator[Forge]:
    """Forks lives of pipelines."""
    with Forge() as made:
        yield made


@pytest.fixture(scope="session")
def fault_free(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The small feed's life without a fault, and what it kept."""
    return reference(forge, tmp_path_factory.mktemp("torture") / "small")


@pytest.fixture(scope="session")
def figures() -> Iterator[dict[str, str]]:
    """What full runs measured, by name; written to the page at the end."""
    found: dict[str, str] = {}
    yield found
    if not found:
        return
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    page = PAGE.read_text("utf-8")
    before = dict(re.findall(r"^\| (.+?) \| (.+) \|$", _TABLE.findall(page)[0], re.MULTILINE))
    before.pop("run", None)
    rows = before | found | {"machine": machine}
    lines = ["| run | figures |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in sorted(rows.items())]
    PAGE.write_text(_TABLE.sub(lambda _: "\n" + "\n".join(lines) + "\n\n", page), "utf-8")
