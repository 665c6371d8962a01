"""The tables of the serving database, as its newest revision has them.

Instants are int64 nanoseconds since the epoch, UTC; dates are days since 1970-01-01; prices are
int64 nano-units. ``volume`` and ``notional`` are 128 bits wide and stand as exact decimals.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.type_api import TypeEngine


class ExactDecimal(sa.types.TypeDecorator[str]):
    """A decimal of any width, held exactly: NUMERIC in PostgreSQL, its text elsewhere.

    In Python it is its canonical text: no exponent, no trailing zeros. SQLite's own NUMERIC
    would turn it into a binary float.
    """

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """Choose the column's type."""
        kind: TypeEngine[Any] = sa.Numeric() if dialect.name == "postgresql" else sa.Text()
        return dialect.type_descriptor(kind)

    def column_expression(self, column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
        """Read it as text."""
        return sa.cast(column, sa.Text())


metadata: Final = sa.MetaData()

series: Final = sa.Table(
    "series",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("feed", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("price_type", sa.Text, nullable=False),
    sa.Column("rule_set", sa.Text, nullable=False),
    sa.Column("session", sa.Text, nullable=False),
    sa.Column("timeframe", sa.Text, nullable=False),
    sa.Column("last_seq", sa.BigInteger, nullable=False),
    sa.UniqueConstraint(
        "symbol",
        "timeframe",
        "source",
        "feed",
        "price_type",
        "rule_set",
        "session",
        name="series_identity",
    ),
)
"""A series in one timeframe. ``last_seq`` is that of its newest row in `bars`, kept or pruned."""

bars: Final = sa.Table(
    "bars",
    metadata,
    sa.Column(
        "seq",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("prev_seq", sa.BigInteger, nullable=False),
    sa.Column("series_id", sa.Integer, sa.ForeignKey("series.id"), nullable=False),
    sa.Column("session_date", sa.Integer, nullable=False),
    sa.Column("ts_open", sa.BigInteger, nullable=False),
    sa.Column("ts_close", sa.BigInteger, nullable=False),
    sa.Column("open", sa.BigInteger),
    sa.Column("high", sa.BigInteger),
    sa.Column("low", sa.BigInteger),
    sa.Column("close", sa.BigInteger),
    sa.Column("volume", ExactDecimal),
    sa.Column("notional", ExactDecimal),
    sa.Column("vwap", sa.BigInteger),
    sa.Column("trade_count", sa.BigInteger, nullable=False),
    sa.Column("official_open", sa.BigInteger),
    sa.Column("official_close", sa.BigInteger),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("coverage", sa.Text, nullable=False),
    sa.Column("partial", sa.Boolean, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.BigInteger),
    sa.Column("known_at", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("series_id", "ts_open", "revision", name="bars_identity"),
)
"""Every revision of every bar, and at the same time the outbox: ``seq`` is its order, counted
from 1 without holes in the order of commits. ``prev_seq`` is the one before in the same series
(0: none)."""

CONTENT: Final = tuple(c.name for c in bars.columns if c.name not in ("seq", "prev_seq"))
"""The columns of `bars` that say what a revision is, in order."""

pruned: Final = sa.Table(
    "pruned",
    metadata,
    sa.Column("series_id", sa.Integer, sa.ForeignKey("series.id"), primary_key=True),
    sa.Column("ts_open", sa.BigInteger, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("digest", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""What is left of a row that retention took: enough to know it, and its content, again."""

head: Final = sa.Table(
    "head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last_seq", sa.BigInteger, nullable=False),
    sa.Column("pruned_seq", sa.BigInteger, nullable=False),
    sa.Column("floor", sa.Integer),
)
"""One row. ``last_seq``: the highest ever given; ``pruned_seq``: the highest that retention took
(0: none). ``floor``: sessions before this day may be incomplete here (null: none is)."""

outbox_readers: Final = sa.Table(
    "outbox_readers",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
)
"""Who reads the outbox, and up to where (inclusive)."""

checkpoints: Final = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("journal_id", sa.Text, primary_key=True),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("versions", sa.Text, nullable=False),
    sa.Column("blob", sa.LargeBinary, nullable=False),
    sa.Column("saved_at_ns", sa.BigInteger, nullable=False),
)

findings: Final = sa.Table(
    "findings",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("code", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("examples", sa.Text, nullable=False),
)

gaps: Final = sa.Table(
    "gaps",
    metadata,
    sa.Column("journal_id", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("feed", sa.Text, nullable=False),
    sa.Column("start_ns", sa.BigInteger, nullable=False),
    sa.Column("end_ns", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("symbols", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("trades", sa.BigInteger, nullable=False),
    sa.Column("bars_compared", sa.BigInteger, nullable=False),
    sa.Column("bars_exact", sa.BigInteger, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)
"""When feeds may have missed messages, and what became of it; see `store.gaps`."""
