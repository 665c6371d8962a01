"""The gap ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of gaps."""
    op.create_table(
        "gaps",
        sa.Column("journal_id", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("source", "feed")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("start_ns", "end_ns")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("reason", "symbols", "state")),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("trades", "bars_compared", "bars_exact")
        ),
        sa.Column("detail", sa.Text, nullable=False),
    )
