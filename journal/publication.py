"""What a journal's writer asks of the place where its commits have to be before they count."""

from __future__ import annotations

import sqlite3
from typing import Protocol


class Closing(Protocol):
    """What is let go of in the end."""

    def close(self) -> None:
        """Lets go."""


class Publication(Protocol):
    """See publisher.py. Errors are those of pipeline.errors; after one the writer must be opened again."""

    def publish(self, db: sqlite3.Connection) -> None:
        """Makes durable what the open transaction has changed."""

    def followed(self) -> None:
        """The file has committed what was published."""

    def abandon(self) -> None:
        """The file has rolled back."""

    def tend(self, db: sqlite3.Connection) -> None:
        """Tidies up, now and then, inside the open transaction."""

    @property
    def trouble(self) -> str | None:
        """Why a commit has been waiting for a while. Any thread."""

    def close(self) -> None:
        """Lets go."""
