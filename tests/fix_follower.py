"""Followers of test databases, ended with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sources.postgres import stream, supervisor
from tests.fix_postgres import Database
from tests.follower import Follower
from tests.two_tables import TABLES

Follow = Callable[..., Follower]


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Follow]:
    """Makes followers, `follow(database, "public.*", slot=…)`, not yet started, which look around more often than in earnest."""
    monkeypatch.setattr(stream, "_IDLE_PAUSE", 0.05)
    monkeypatch.setattr(supervisor, "_LOOK_AT_SLOT", 0.5)
    monkeypatch.setattr(supervisor, "_DISCOVER", 0.3)
    made: list[Follower] = []

    def make(database: Database, *tables: str, recall: bool = False, context: dict[str, Any] | None = None, **config: Any) -> Follower:
        follower = Follower(database, tmp_path / f"state{len(made)}", tables or ("public.*",), config, recall, context or {})
        made.append(follower)
        return follower

    yield make
    for follower in made:
        follower.kill()


@pytest.fixture
def everywhere(database: Database) -> Database:
    """The two tables, in turn on every version."""
    database.execute(*TABLES)
    return database


@pytest.fixture
def shop(database15: Database) -> Database:
    """The two tables."""
    database15.execute(*TABLES)
    return database15
