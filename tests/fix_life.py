"""A pipeline with records in quarantine, of which nothing runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from journal.batch import ChangeBatch, CopyMarker
from journal.local import JournalReader
from tests.test_cli_quarantine import SCHEMA, Shop


class Life(Shop):
    """A shop whose ingest has ended: commands do what they ask for themselves."""

    def copied(self) -> None:
        """The first copy of the table comes to its end."""
        self.journal.mark(CopyMarker(SCHEMA, "portal", "public.orders", "end", 1, first=True))
        self.journal.commit("portal", "{}")

    def step(self, *arguments: object, code: int = 0) -> Any:
        done = self.run(*arguments, "--json")
        assert done.code == code, f"{done.code}: {done.out}{done.err}"
        return done.json if done.out else done.err

    def ids(self, **wanted: str) -> list[str]:
        return [one["id"] for one in self.list(*(part for name, value in wanted.items() for part in (f"--{name}", value)))]

    def delivered(self) -> list[tuple[int, dict[str, str | None]]]:
        """What sinks get, in the journal's order."""
        with JournalReader.open(self.state_folder, "shop") as reader:
            entries = reader.read(0, max_bytes=1 << 30, sink="warehouse").entries
        batches = [entry for _, entry in entries if isinstance(entry, ChangeBatch)]
        return [
            (ordinal, dict(zip(batch.schema.names, row, strict=True)))
            for batch in batches
            for ordinal, row in zip(batch.ordinal.tolist(), zip(*(c.to_pylist() for c in batch.columns), strict=True), strict=True)
        ]

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = self.run("status", "--json").json["datasets"]["orders"]
        return found


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    made = Life(tmp_path)
    with closing(made.state):
        with closing(made.journal):
            made.arrive(10, [made.record(1, "-1.00"), made.record(2, "-22.00"), made.record(3, None)])
            made.copied()
        yield made
