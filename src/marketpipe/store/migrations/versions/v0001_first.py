"""The first schema. What it says is fixed: later schemas are revisions of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table."""
    _series()
    _bars()
    _retention()
    _pipelines()


def _series() -> None:
    names = ("symbol", "timeframe", "source", "feed", "price_type", "rule_set", "session")
    op.create_table(
        "series",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in names),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.UniqueConstraint(*names, name="series_identity"),
    )


def _bars() -> None:
    big = sa.BigInteger
    exact = sa.Numeric().with_variant(sa.Text(), "sqlite")
    op.create_table(
        "bars",
        sa.Column(
            "seq",
            big().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("prev_seq", big, nullable=False),
        sa.Column("series_id", sa.Integer, sa.ForeignKey("series.id"), nullable=False),
        sa.Column("session_date", sa.Integer, nullable=False),
        sa.Column("ts_open", big, nullable=False),
        sa.Column("ts_close", big, nullable=False),
        *(sa.Column(name, big) for name in ("open", "high", "low", "close")),
        sa.Column("volume", exact),
        sa.Column("notional", exact),
        sa.Column("vwap", big),
        sa.Column("trade_count", big, nullable=False),
        sa.Column("official_open", big),
        sa.Column("official_close", big),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("coverage", sa.Text, nullable=False),
        sa.Column("partial", sa.Boolean, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("recorded_at", big),
        sa.Column("known_at", big, nullable=False),
        sa.UniqueConstraint("series_id", "ts_open", "revision", name="bars_identity"),
    )


def _retention() -> None:
    op.create_table(
        "pruned",
        sa.Column("series_id", sa.Integer, sa.ForeignKey("series.id"), primary_key=True),
        sa.Column("ts_open", sa.BigInteger, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("digest", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    head = op.create_table(
        "head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("pruned_seq", sa.BigInteger, nullable=False),
        sa.Column("floor", sa.Integer),
    )
    op.bulk_insert(head, [{"id": 1, "last_seq": 0, "pruned_seq": 0, "floor": None}])
    op.create_table(
        "outbox_readers",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )


def _pipelines() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("pipeline", sa.Text, primary_key=True),
        sa.Column("journal_id", sa.Text, primary_key=True),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("versions", sa.Text, nullable=False),
        sa.Column("blob", sa.LargeBinary, nullable=False),
        sa.Column("saved_at_ns", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "findings",
        sa.Column("pipeline", sa.Text, primary_key=True),
        sa.Column("code", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("examples", sa.Text, nullable=False),
    )
