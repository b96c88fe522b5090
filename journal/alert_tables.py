"""The tables of the state that hold what alerts are known and which messages tell of them; see alerting.py."""

from __future__ import annotations

import sqlalchemy as sa


def alert_tables(tables: sa.MetaData) -> tuple[sa.Table, sa.Table]:
    """What is known of each trouble, and the messages."""
    alert = sa.Table(
        "alert",
        tables,
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("first_at", sa.Float, nullable=False),
        sa.Column("gone_at", sa.Float),
        sa.Column("told_at", sa.Float),
        sa.Column("told_count", sa.BigInteger),
        sa.Column("held", sa.Integer, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
    )
    message = sa.Table(
        "alert_message",
        tables,
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("sent", sa.Boolean),
        sa.Column("error", sa.Text),
        sa.Index("alert_message_by_time", "ended_at", "created_at"),
    )
    return alert, message
