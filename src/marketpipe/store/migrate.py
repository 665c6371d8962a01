"""Bring a database to the newest schema, from whichever earlier one it has."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from marketpipe.errors import NewerVersionError

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def upgrade(connection: Connection, *, where: str) -> None:
    """Migrate forward inside the caller's transaction; a database of the newest schema is kept.

    Parameters
    ----------
    connection : inside a transaction that excludes other writers
    where : names the database in errors

    Raises
    ------
    NewerVersionError
        If the database's schema is of a later version of MarketPipe.
    """
    config = _config()
    current = MigrationContext.configure(connection).get_current_revision()
    known = known_revisions()
    if current is not None and current not in known:
        raise NewerVersionError(
            f"store: the schema of {where} was '{current}'; this version of MarketPipe knows "
            f"{', '.join(known)}. Use the version that wrote it, or another database"
        )
    if current != known[-1]:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def known_revisions() -> list[str]:
    """Return the schemas that this version of MarketPipe knows, the newest last."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return [script.revision for script in scripts][::-1]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
