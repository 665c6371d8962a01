"""Database URLs: what works, what is refused, and that no message shows a password."""

import asyncio
import subprocess
import sys

import pytest

from marketpipe.errors import StoreError, UsageError
from marketpipe.store import BarRepository
from marketpipe.store.urls import parse_url


@pytest.mark.parametrize(
    ("text", "driver", "where"),
    [
        ("sqlite:///./data/marketpipe.db", "sqlite+aiosqlite", "'./data/marketpipe.db'"),
        ("sqlite:////abs/a.db", "sqlite+aiosqlite", "'/abs/a.db'"),
        ("sqlite://", "sqlite+aiosqlite", "the database in memory"),
        ("postgresql://u:s3cret@db/bars", "postgresql+asyncpg", "db:5432/bars"),
        ("postgres://u:s3cret@db:6543/bars", "postgresql+asyncpg", "db:6543/bars"),
    ],
)
def test_url_documented_form_is_read(text: str, driver: str, where: str) -> None:
    address = parse_url(text)
    assert address.url.drivername == driver
    assert address.where == where
    assert "s3cret" not in repr(address)


def test_url_tls_mode_is_named_as_the_driver_does() -> None:
    url = parse_url("postgresql://u@db/bars?sslmode=require").url
    assert dict(url.query) == {"ssl": "require"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mysql://u:s3cret@db/bars", "scheme was 'mysql'; valid are sqlite:///"),
        ("no url, s3cret", "cannot be read as a URL; valid are sqlite:///"),
        ("postgresql://u:s3cret@db:port/bars", "cannot be read as a URL"),
    ],
)
def test_url_that_cannot_be_used_is_refused_without_repeating_it(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        parse_url(text)
    assert "s3cret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_url_of_a_server_that_is_not_there_names_host_and_port_only() -> None:
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/bars cannot be reached") as refused:
        asyncio.run(BarRepository.open("postgresql://u:s3cret@127.0.0.1:1/bars"))
    assert "s3cret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_url_of_postgresql_without_the_driver_names_the_extra() -> None:
    # A real interpreter without asyncpg: its finder says that there is no such package.
    program = """
import sys
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "asyncpg" else PathFinder.find_spec(name, path, target)
sys.meta_path = [Without if f is PathFinder else f for f in sys.meta_path]
from marketpipe.store.urls import parse_url
parse_url("postgresql://u:s3cret@db/bars")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "UsageError: DATABASE_URL: PostgreSQL needs a driver" in done.stderr
    assert "marketpipe[postgres]" in done.stderr
    assert "s3cret" not in done.stderr.splitlines()[-1]
