"""A source of files beside a journal in miniature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sources.files import reader
from tests.file_taking import Taking

MakeTaking = Callable[..., Taking]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that files come into."""
    made = tmp_path / "drops"
    made.mkdir()
    return made


@pytest.fixture
def make_taking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeTaking]:
    """Makes a source of the folder `drops`; the keys of its block are the arguments."""
    monkeypatch.setattr(reader, "_EVERY", 0.1)
    made: list[Taking] = []

    def make(**block: Any) -> Taking:
        made.append(Taking({"path": str(tmp_path / "drops"), **block}, tmp_path))
        return made[-1]

    yield make
    for taking in made:
        taking.kill()
