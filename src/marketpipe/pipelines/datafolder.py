"""Where a data folder keeps its journals, its lake and its database."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marketpipe.domain.buckets import BUCKETS
from marketpipe.errors import UsageError
from marketpipe.lake import DiskBudget, LakeLayout

_FORBIDDEN: Final = frozenset("/\\\0")


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths below one folder; nothing is made before something is kept there.

    Attributes
    ----------
    root : the folder
    database_url : of the serving database; None for ``marketpipe.db`` in the folder
    buckets : instrument buckets of lake tables that are made; one that is there keeps its own
    disk_budget_bytes : most bytes that the lake may take; None for no limit
    """

    root: Path
    database_url: str | None = None
    buckets: int = BUCKETS
    disk_budget_bytes: int | None = None

    def journal(self, journal_id: str) -> Path:
        """Return the folder of a journal."""
        if not journal_id or journal_id.startswith(".") or _FORBIDDEN & set(journal_id):
            raise UsageError(
                f"journal: was {journal_id!r}; a journal's name can be a folder's: letters, "
                "digits, - and _"
            )
        return self.root / "journal" / journal_id

    def aside(self, journal_id: str) -> Path:
        """Return the folder of a journal's bars of finished sessions."""
        return self.root / "aside" / self.journal(journal_id).name

    @property
    def scratch(self) -> Path:
        """Folder of what is at hand only while something runs."""
        return self.root / "scratch"

    def journals(self) -> list[str]:
        """Return the names of the journals that are here, sorted."""
        folder = self.root / "journal"
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []

    @property
    def lake(self) -> LakeLayout:
        """The tables of the lake."""
        return LakeLayout(self.root / "lake", self.buckets)

    @property
    def budget(self) -> DiskBudget | None:
        """The limit of the lake; None if there is none."""
        limit = self.disk_budget_bytes
        return None if limit is None else DiskBudget(self.lake, limit)

    @property
    def store_url(self) -> str:
        """URL of the serving database."""
        return self.database_url or f"sqlite:///{(self.root / 'marketpipe.db').absolute()}"
