"""Databases for the contract of the store; the PostgreSQL server is started once."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from servers import postgres, postgres_binaries
from storekit import NewUrl


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's programs (initdb, pg_ctl) are not installed")
    with postgres(binaries) as url:
        yield url


@pytest.fixture(params=["sqlite", "memory", "postgres"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> NewUrl:
    """Give the URL of an empty database with every call, the only one in use from then on."""
    number = itertools.count()
    if request.param == "memory":
        return lambda: "sqlite://"
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path / f'{next(number)}.db'}"
    server: str = request.getfixturevalue("postgres_url")
    return lambda: _emptied(server)


def _emptied(server: str) -> str:
    """Empty the server's database: much faster than making one."""

    async def empty() -> None:
        engine = create_async_engine(server.replace("postgresql:", "postgresql+asyncpg:"))
        async with engine.begin() as connection:
            await connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            await connection.execute(sa.text("CREATE SCHEMA public"))
        await engine.dispose()

    asyncio.run(empty())
    return server


@pytest.fixture(params=["sqlite", "postgres"], scope="session")
def postgres_or_sqlite(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> NewUrl:
    """Give new databases to many examples of one test."""
    number = itertools.count()
    folder = tmp_path_factory.mktemp("databases")
    if request.param == "sqlite":
        return lambda: f"sqlite:///{folder / f'{next(number)}.db'}"
    server: str = request.getfixturevalue("postgres_url")
    return lambda: _emptied(server)
