"""What each rule of a contract costs a row, measured here and now on values that are made up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from pipeline.errors import SluiceError
from quality.column import Column
from quality.contract import Contract
from quality.frame import Frame
from quality.logical_types import Judged
from quality.references import References
from quality.rules import Rule
from quality.step import StepJudge

_ROWS = 4096
_RUNS = 3
_PATIENCE = 1.5  # seconds for all rules together


def rule_costs(contract: Contract) -> Mapping[str, float | None]:
    """Rule -> nanoseconds a row; None for one that cannot be measured without its lookup, and where there are too many of them.

    With rules that only Python can judge, what a row costs depends on the values far more than with others.
    """
    columns = {name: made_up(held) for name, held in contract.types_in_files.items()}
    until = time.perf_counter() + _PATIENCE
    return {rule.id: _cost(rule, contract, columns) if time.perf_counter() < until else None for rule in contract.rules}


def _cost(rule: Rule, contract: Contract, columns: Mapping[str, pa.Array]) -> float | None:
    try:
        judge = rule.compile(contract.types_in_files)
        if isinstance(judge, References):
            return None
        if isinstance(judge, StepJudge):
            arrays = [columns[name] for name in judge.columns]
            return _measured(lambda: [judge.numbered(Column(array)) for array in arrays])
        return _measured(lambda: judge.judge(Frame(columns, _ROWS)))
    except SluiceError:  # which is told where the rule is read
        return None


def _measured(run: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_RUNS):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return round(best / _ROWS * 1e9, 1)


def made_up(held: Judged) -> pa.Array:
    """Values of one column, as they are held while they are judged."""
    chance = np.random.default_rng(1)
    match held.family:
        case "boolean":
            return pa.array(chance.random(_ROWS) < 0.5)
        case "integer" | "number":
            digits = held.arrow.precision - held.arrow.scale if pa.types.is_decimal(held.arrow) else 6
            return pa.array(chance.integers(0, 10 ** min(max(digits, 0), 6), _ROWS)).cast(pa.string()).cast(held.arrow)
        case "date" | "timestamp" | "time":
            moments = pa.array(chance.integers(0, 86_400, _ROWS) * 1_000_000)
            if held.family == "time":
                return moments.cast(held.arrow)
            return moments.cast(pa.timestamp("us")).cast(held.arrow, safe=False)
        case "json":
            return pa.array([f'{{"a": {number}}}' for number in range(_ROWS)])
        case "array":
            return pa.array([f"[{number}, 2]" for number in range(_ROWS)])
        case "uuid":
            return pa.array([f"00000000-0000-4000-8000-{number:012d}" for number in range(_ROWS)])
        case _:
            texts = pa.array([f"Value {number}" for number in range(_ROWS)])
            return texts if pa.types.is_string(held.arrow) else texts.cast(held.arrow)
