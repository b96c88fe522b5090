"""The tables of rows that come back to the sinks that refused them; see returns.py."""

from __future__ import annotations

import sqlalchemy as sa


def return_tables(tables: sa.MetaData) -> tuple[sa.Table, sa.Table]:
    """Rows that come back to their sinks, and the newest changes that sinks have written of keys of rows that they refused."""
    returning = sa.Table(
        "returning_row",
        tables,
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("sink", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("ordinal", sa.BigInteger, nullable=False),
        sa.Column("entry", sa.BigInteger),
        sa.Column("outcome", sa.Text),
        sa.Column("reason", sa.Text),
    )
    written = sa.Table(
        "written_key",
        tables,
        sa.Column("sink", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("newest", sa.BigInteger, nullable=False),
    )
    return returning, written
