"""Every error that Sluice raises on purpose.

    SluiceError                    what happened, to what, and what to do next
    ├── ConfigError                a file is wrong; carries every Problem with file:line
    ├── TerminalError              somebody has to fix something; trying again changes nothing
    │   ├── Refused                a server said no for good: credentials, grants, a missing table
    │   │   └── TableGone          a table that was read is not at its source any more
    │   ├── PreflightError         the source is not ready for what the pipeline asks of it
    │   ├── SlotLostError          the slot is gone, invalidated, or not the one we left
    │   ├── PositionLostError      a topic is another one than before, or does not hold any more what comes next
    │   ├── AlreadyRunningError    another process has this pipeline, sink or slot
    │   ├── JournalError           the journal is damaged, of a newer version, or of another pipeline
    │   └── SinkShapeError         a sink's table exists and is not what the dataset needs
    ├── TransientError             trying again may help: unreachable, restarting, locked, full
    │   ├── NotYetError            another process has to come first
    │   └── AgainError             nothing is wrong: the same is done again, in another way
    └── RowError                   one row cannot be taken; it goes to quarantine and its neighbours go on

The kind decides what happens next (stop and say so, retry with backoff, quarantine); no caller looks at the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EXIT_NO = 1
EXIT_USAGE = 2


class SluiceError(Exception):
    """Something went wrong that a person can act on.

    `message` says what happened and to what, `hint` what to do next. Neither ever holds a secret.
    """

    exit_code = EXIT_NO

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type[SluiceError], message: str, hint: str | None) -> SluiceError:
    return kind(message, hint=hint)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file; `line` counts from 1."""

    message: str
    file: Path | None = None
    line: int | None = None
    hint: str | None = None

    def __str__(self) -> str:
        where = "" if self.file is None else f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        return f"{where}{self.message}" + (f"\n  hint: {self.hint}" if self.hint else "")


class ConfigError(SluiceError):
    """A file cannot be used. `problems` holds all of them, in the order of the file."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, *, hint: str | None = None, problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems) or (Problem(message, hint=hint),)
        super().__init__(message, hint=hint)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> ConfigError:
        return cls("\n".join(str(problem) for problem in problems), problems=problems)


class TerminalError(SluiceError):
    """Trying again changes nothing until somebody fixes something."""


class Refused(TerminalError):  # noqa: N818  (reads as what happened)
    """A server said no for good."""

    exit_code = EXIT_USAGE


class TableGone(Refused):
    """A table that was read is not at its source any more."""


class PreflightError(TerminalError):
    """The source is not ready. `problems` holds every reason."""

    def __init__(self, message: str, *, hint: str | None = None, problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems) or (Problem(message, hint=hint),)
        super().__init__(message, hint=hint)


class SlotLostError(TerminalError):
    """The replication slot is gone, invalidated or was recreated: there is a gap that only a new copy can fill."""


class PositionLostError(TerminalError):
    """What comes after the journal's position is not at the source any more: there is a gap."""


class AlreadyRunningError(TerminalError):
    """Another process holds what this one needs alone."""


class JournalError(TerminalError):
    """The journal cannot be used."""


class SinkShapeError(TerminalError):
    """A sink's table exists with a shape that the dataset cannot be written into."""


class TransientError(SluiceError):
    """Trying again may help. Exit code 2 for commands that connect once."""

    exit_code = EXIT_USAGE


class NotYetError(TransientError):
    """Another process has to come first; it is waited for."""


class AgainError(TransientError):
    """Nothing is wrong: what was open is done again, in another way."""


class RowError(SluiceError):
    """One row cannot be taken."""
