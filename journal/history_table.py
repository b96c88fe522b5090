"""Where the state keeps how datasets did: the table."""

from __future__ import annotations

import sqlalchemy as sa


def history_table(tables: sa.MetaData) -> sa.Table:
    """Where the lines are."""
    return sa.Table(
        "history",
        tables,
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("width", sa.Integer, primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True),
        sa.Column("open", sa.BigInteger, nullable=False),
        sa.Column("oldest", sa.Float),
        sa.Column("freshness", sa.Float),
        sa.Column("delay", sa.Float),
        sa.Column("judged", sa.BigInteger, nullable=False),
        sa.Column("within", sa.BigInteger, nullable=False),
        sa.Index("history_by_time", "width", "start"),
        sqlite_with_rowid=False,
    )
