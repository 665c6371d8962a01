"""Database addresses: what users write, what the drivers want, what errors may show."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from marketpipe.errors import UsageError

_DIALECTS: Final = {"sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql"}
_DRIVERS: Final = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}
_VALID: Final = "valid are sqlite:///path/to/file.db and postgresql://user:password@host:5432/name"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is.

    Attributes
    ----------
    url : for SQLAlchemy, with its driver; absent from the repr, for it may hold a password
    where : for people: the file, or host, port and name; never a password
    """

    url: sa.URL = field(repr=False)
    where: str

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database; None in memory, for servers, and in SQLite's own URIs."""
        name = self.url.database
        if not self.is_sqlite or name in (None, "", ":memory:") or str(name).startswith("file:"):
            return None
        return Path(str(name))


def parse_url(text: str) -> Address:
    """Read a database's URL: ``sqlite:///path``, ``sqlite://`` (memory), ``postgresql://…``.

    Raises
    ------
    UsageError
        If it cannot be read, is of another kind, or its driver is not installed. No message
        repeats a URL, for it may hold a password.
    """
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(f"DATABASE_URL: cannot be read as a URL; {_VALID}") from None
    kind = _DIALECTS.get(url.drivername.partition("+")[0])
    if kind is None:
        raise UsageError(f"DATABASE_URL: the scheme was '{url.drivername}'; {_VALID}")
    url = url.set(drivername=f"{kind}+{_DRIVERS[kind]}")
    if kind == "sqlite":
        return Address(url, f"'{url.database}'" if url.database else "the database in memory")
    if find_spec("asyncpg") is None:
        raise UsageError(
            "DATABASE_URL: PostgreSQL needs a driver that is not installed; "
            "install it with: pip install 'marketpipe[postgres]'"
        )
    return Address(_ssl_as_asyncpg(url), f"{url.host}:{url.port or 5432}/{url.database}")


def _ssl_as_asyncpg(url: sa.URL) -> sa.URL:
    """Name the TLS mode as the driver does; ``sslmode`` is what other PostgreSQL tools call it."""
    mode = url.query.get("sslmode")
    if mode is None:
        return url
    return url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
