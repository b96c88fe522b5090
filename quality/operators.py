"""The operators of the standard, which compare what was measured with what must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from quality.odcs_schema import OPERATORS

Measured = bool | int | float | Decimal | str | None


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator with its value; `holds` says whether what was measured is as it must be. Nothing measured never is."""

    name: str
    value: Any

    @classmethod
    def of(cls, check: Mapping[str, Any]) -> Operator | None:
        """The operator of a quality check, if it has one. Raises ValueError for a value that makes no sense."""
        for name in OPERATORS:
            if name in check:
                value = check[name]
                for one in value if isinstance(value, list) else [value]:
                    if isinstance(one, float) and not math.isfinite(one):
                        raise ValueError(f"{name} wants a number, not {one}")
                if name.endswith("Between") and value[0] > value[1]:
                    raise ValueError(f"{name} wants the smaller number first, not {value}")
                return cls(name, value)
        return None

    @property
    def none_may(self) -> bool:
        """Whether it asks for none at all."""
        return self.name == "mustBe" and self.value == 0 and not isinstance(self.value, bool)

    @property
    def numeric(self) -> bool:
        """Whether it compares with a number."""
        values = self.value if isinstance(self.value, list) else [self.value]
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)

    def holds(self, measured: Measured) -> bool:
        if measured is None or isinstance(measured, bool) != isinstance(self.value, bool):
            return measured is not None and self.name == "mustNotBe"
        try:
            return _HOLDS[self.name](measured, _exact(self.value) if isinstance(measured, Decimal) else self.value)
        except TypeError:  # text where a number must be, or the other way round
            return False

    def __str__(self) -> str:
        return f"{self.name} {self.value}"


def _exact(value: Any) -> Any:
    """Numbers as they are written: 0.3 is not the nearest double."""
    if isinstance(value, list):
        return [_exact(item) for item in value]
    return Decimal(repr(value)) if isinstance(value, float) else value


_HOLDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "mustBe": lambda measured, value: bool(measured == value),
    "mustNotBe": lambda measured, value: bool(measured != value),
    "mustBeGreaterThan": lambda measured, value: bool(measured > value),
    "mustBeGreaterOrEqualTo": lambda measured, value: bool(measured >= value),
    "mustBeLessThan": lambda measured, value: bool(measured < value),
    "mustBeLessOrEqualTo": lambda measured, value: bool(measured <= value),
    "mustBeBetween": lambda measured, value: bool(value[0] <= measured <= value[1]),
    "mustNotBeBetween": lambda measured, value: not value[0] <= measured <= value[1],
}
