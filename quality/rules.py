"""What a rule is, whoever evaluates it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import pyarrow as pa

from pipeline.errors import SluiceError
from quality.frame import Frame
from quality.kernels.verdict import RowVerdict, SetVerdict
from quality.logical_types import Judged
from quality.step import StepJudge


class Action(StrEnum):
    """What becomes of a row that breaks a rule."""

    WARN = "warn"  # delivered, and counted
    QUARANTINE = "quarantine"
    DROP = "drop"  # counted with the rule's id
    FAIL = "fail"  # the table stops


class Scope(StrEnum):
    """What a rule looks at: a row alone, a row among the others of its batch, what a row was before, or a set of rows as a whole."""

    ROW = "row"
    BATCH = "batch"
    KEY = "key"
    SET = "set"


OPERATIONS = ("insert", "update")
"""The operations that a rule can be limited to; a copied row counts as inserted. Deletes are not judged."""

Types = Mapping[str, Judged]
"""Column -> how its values are held."""


class RuleError(SluiceError):
    """A rule cannot be evaluated faithfully. The caller knows the file and the line; `part` is the key in the entry that is at fault."""

    def __init__(self, message: str, *, hint: str | None = None, part: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.part = part


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands: the dataset's names, the column if it stands in a property, and how names of properties resolve.

    `names` maps what SQL may call a column to the column: its own name, and that of its property.
    """

    tables: tuple[str, ...]
    column: str | None
    resolve: Callable[[str], str]
    names: Mapping[str, str]


class RowJudge(Protocol):
    """A rule over rows, ready for certain types."""

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def engine(self) -> str: ...

    def judge(self, frame: Frame) -> RowVerdict: ...


class SetJudge(Protocol):
    """A rule over a set of rows, ready for certain types."""

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def engine(self) -> str: ...

    def judge(self, frame: Frame) -> SetVerdict: ...


Judge = RowJudge | SetJudge | StepJudge


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a contract.

    id        stable; given, or made as COLUMN-METRIC-N
    kind      `required`, `type`, a metric of the library, the name of an expectation, `sql`, …
    columns   the table's columns that it reads
    column    the one that it is about, if it is about one
    compile   types -> what judges; raises RuleError, BadExpectation or ExpressionError where these types cannot be judged
    line      of its entry in the contract's file
    says      what must hold, in the owner's words if there are any
    asks      the same as the contract's keys say it, without words for people: rules that ask alike have equal ones
    expectation   the name and the arguments by which Great Expectations knows it, if it does
    lookup    the lookup that its values are looked for in, if it is about one
    """

    id: str
    kind: str
    columns: tuple[str, ...]
    column: str | None
    scope: Scope
    compile: Callable[[Types], Judge] = field(repr=False, compare=False)
    line: int
    says: str
    action: Action = Action.QUARANTINE
    on: frozenset[str] = frozenset(OPERATIONS)
    severity: str | None = None
    mostly: float = 1.0
    generated: bool = False
    asks: Any = field(default=None, repr=False, compare=False)
    lookup: str | None = None
    expectation: tuple[str, Mapping[str, Any]] | None = field(default=None, compare=False)

    @property
    def kind_of_expectation(self) -> str:
        """The expectation's name in its lower case; empty for a rule that is none."""
        return "" if self.expectation is None else self.expectation[0]


@dataclass(frozen=True, slots=True)
class Found:
    """What an entry of `quality` asks.

    `kind` is what a generated id calls it, `about` the column that it is about, if it is one, `says` what must hold, in words.
    """

    kind: str
    about: str | None
    scope: Scope
    columns: tuple[str, ...]
    says: str
    compile: Callable[[Types], Judge]
    lookup: str | None = None
    expectation: tuple[str, Mapping[str, Any]] | None = None


def arrow_types(types: Types) -> dict[str, pa.DataType]:
    """Column -> Arrow type."""
    return {name: held.arrow for name, held in types.items()}
