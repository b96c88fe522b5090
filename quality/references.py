"""The rule that a value is in a lookup. Where no lookups are (a contract on its own), it is read and not judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import Problem
from pipeline.names import nearest
from quality.frame import Frame
from quality.kernels.verdict import RowVerdict
from quality.logical_types import family_of
from quality.rules import RuleError, Types

if TYPE_CHECKING:
    from quality.contract import Contract

Mask = npt.NDArray[np.bool_]

_FAMILIES = {"integer": "integer", "text": "text", "uuid": "text", "other": "text", "date": "date"}
"""Values that are written in one way only, by what they can be compared with."""


class Lookup(Protocol):
    """What a lookup holds now."""

    @property
    def key_types(self) -> Sequence[str] | None:
        """The types of its key's columns, in the words of Postgres; None while nothing is known of it."""

    def lacks(self, keys: Sequence[pa.StringArray]) -> Mask:
        """bool[n]: there is no row with this key; one string array for each column of the key. A null refers to nothing."""


Lookups = Mapping[str, Lookup]


@dataclass(frozen=True, eq=False)
class References:
    """A rule over rows: values of `columns` that are all there are the key of a row in the lookup."""

    columns: tuple[str, ...]
    lookup: str
    types: Types
    mostly: float = 1.0
    rows: Lookup | None = None
    engine: str = "arrow"

    def __post_init__(self) -> None:
        for name in self.columns:
            if name in self.types and self.types[name].family not in _FAMILIES:
                said = f"{name} holds {self.types[name].family}, which cannot be looked for in a lookup"
                raise RuleError(said, hint="a whole number, text, a uuid or a date", part="implementation")

    def among(self, lookups: Lookups) -> References:
        """The same, ready to judge. Raises RuleError for a lookup that there is not."""
        if self.lookup not in lookups:
            raise no_lookup(self.lookup, lookups)
        rows = lookups[self.lookup]
        self._check(rows.key_types)
        return replace(self, rows=rows)

    def judge(self, frame: Frame) -> RowVerdict:
        """Raises RuleError where the lookup's key is another now, and where there are no lookups at all."""
        if self.rows is None:
            raise RuleError(f"the lookup {self.lookup} is not here", part="implementation")
        self._check(self.rows.key_types)
        columns = [frame.column(name) for name in self.columns]
        out = frame.skipped(self.columns)
        left_out = np.zeros(frame.rows, np.bool_) if out is None else out.copy()
        for column in columns:
            if column.missing is not None:
                left_out |= column.missing
        failed = np.zeros(frame.rows, np.bool_)
        asked = np.flatnonzero(~left_out)
        if len(asked):
            index = pa.array(asked)
            failed[asked] = self.rows.lacks([column.array.take(index).cast(pa.string()) for column in columns])
        return RowVerdict.of(len(asked), failed, self.mostly)

    def _check(self, key: Sequence[str] | None) -> None:
        if key is None:
            return
        if len(key) != len(self.columns):
            said = f"the key of the lookup {self.lookup} has {len(key)} column(s), and the rule {len(self.columns)}"
            raise RuleError(said, hint="columns: [NAME, …], in the order of the lookup's key", part="implementation")
        for name, kind in zip(self.columns, key, strict=True):
            own = self.types[name].postgres
            if _comparable(own) != _comparable(kind):
                said = f"{name} is {own}, and the key of the lookup {self.lookup} is {kind}: they cannot be compared"
                raise RuleError(said, hint="both have to be whole numbers, or text, or dates", part="implementation")


def strange_lookups(contract: Contract, lookups: Iterable[str]) -> list[Problem]:
    """One problem for each rule of a contract that looks in a lookup which a pipeline does not have."""
    known = list(lookups)
    found = []
    for rule in contract.rules:
        if rule.lookup is not None and rule.lookup not in known:
            error = no_lookup(rule.lookup, known)
            found.append(Problem(f"rule {rule.id}: {error.message}", contract.file, rule.line, error.hint))
    return found


def no_lookup(name: str, known: Iterable[str]) -> RuleError:
    """What to say of a lookup that there is not."""
    hint = nearest(name, known) or "the pipeline file names lookups under `lookups`"
    return RuleError(f"there is no lookup {name!r}", hint=hint, part="implementation")


def _comparable(kind: str) -> str:
    return _FAMILIES.get(family_of(kind), kind)
