"""Profiles rows: the facts, and the draft of a contract that holds on them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from quality.profile.batches import Batch
from quality.profile.draft import draft_of
from quality.profile.file_batches import file_batches
from quality.profile.looking import Known, Look
from quality.profile.model import Finding, TableProfile
from quality.profile.proving import proven
from quality.profile.stage import Stage
from quality.profile.writing import as_yaml


@dataclass(frozen=True)
class Profiled:
    """The facts, and the draft as plain data and as YAML."""

    profile: TableProfile
    draft: dict[str, Any]
    left_out: int

    @property
    def yaml(self) -> str:
        return as_yaml(self.draft)


def profile_file(file: Path, sample: int | None = None) -> Profiled:
    """Profiles a CSV, JSON-lines, Parquet or Arrow file. Raises ConfigError for one that cannot be read."""
    dataset = re.sub(r"\..*$", "", file.name) or file.stem
    return profile_rows(lambda look: look.take(file_batches(file)), Known(dataset, file.name), sample)


def profile_batches(batches: Iterable[Batch], known: Known, sample: int | None = None) -> Profiled:
    """Profiles rows that come in batches."""
    return profile_rows(lambda look: look.take(batches), known, sample)


def profile_rows(give: Callable[[Look], None], known: Known, sample: int | None = None) -> Profiled:
    """Profiles what `give` hands to a look. Memory does not grow with the rows; they are on disk meanwhile."""
    with Stage() as stage, TemporaryDirectory(prefix="sluice-draft-") as folder:
        look = Look(stage, known, sample)
        give(look)
        profile = look.profile()
        draft, broken = proven(draft_of(profile), stage, look.held, Path(folder))
    left = [Finding("not-drafted", rule.column, f"a rule {rule.kind} would not hold, and was left out of the draft") for rule in broken]
    return Profiled(replace(profile, findings=[*profile.findings, *left]), draft, len(broken))
