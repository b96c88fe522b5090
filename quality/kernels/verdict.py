"""What a kernel says about one batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RowVerdict:
    """The answer of a rule over rows.

    `failed` is bool[rows]: every row that breaks the rule, whatever `mostly` allows. `evaluated` counts the rows that the rule was
    asked about: those that its condition and its treatment of missing values leave. `success` is the verdict over the batch:
    the share of evaluated rows that pass is at least `mostly`; with nothing to evaluate it is true.
    """

    evaluated: int
    failed: Rows
    success: bool

    @property
    def unexpected(self) -> int:
        """How many rows failed."""
        return int(np.count_nonzero(self.failed))

    @property
    def unexpected_percent(self) -> float | None:
        """The share of evaluated rows that failed, in percent; None when none was evaluated."""
        return self.unexpected / self.evaluated * 100 if self.evaluated else None

    @classmethod
    def of(cls, evaluated: int, failed: Rows, mostly: float) -> RowVerdict:
        """The verdict for these failures, where `mostly` of the evaluated rows must pass."""
        success = evaluated == 0 or (float(evaluated) - float(np.count_nonzero(failed))) / float(evaluated) >= mostly
        return cls(evaluated, failed, success)


@dataclass(frozen=True)
class SetVerdict:
    """The answer of a rule over a whole set of rows. `observed` can be written as JSON."""

    success: bool
    observed: object
