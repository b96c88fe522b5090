"""Judges a file by a contract, without any server: the engine of `sluice contract test`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError, Problem, SluiceError
from quality.contract import Contract
from quality.contract_reading import load_contract
from quality.data_file import Data, read_data
from quality.kernels.verdict import RowVerdict
from quality.rules import Rule, Scope

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RuleResult:
    """What one rule says of the file: `failed` is bool[rows] for a rule over rows; `observed` is what a rule over the set found."""

    rule: Rule
    engine: str
    success: bool
    evaluated: int = 0
    failed: Mask | None = None
    observed: object = None

    def answer(self) -> dict[str, Any]:
        if self.failed is None:
            return {"id": self.rule.id, "engine": self.engine, "success": self.success, "observed": self.observed}
        rows = np.flatnonzero(self.failed)
        return {
            "id": self.rule.id,
            "engine": self.engine,
            "evaluated": self.evaluated,
            "failed": len(rows),
            "rows": rows.tolist(),
            "success": self.success,
        }


@dataclass(frozen=True, eq=False)
class FileVerdict:
    """What a contract says of a file. Every rule judges, whatever its action: the file is what is asked about, not its delivery."""

    contract: Contract
    rows: int
    results: Sequence[RuleResult]
    problems: Sequence[str] = field(default_factory=tuple)

    @property
    def passed(self) -> int:
        """Rows that break no rule."""
        broken = np.zeros(self.rows, np.bool_)
        for result in self.results:
            if result.failed is not None:
                broken |= result.failed
        return self.rows - int(np.count_nonzero(broken))

    @property
    def success(self) -> bool:
        """Whether every rule holds, a rule over rows for the share of them that `mostly` asks for."""
        return all(result.success for result in self.results)

    @property
    def exit_code(self) -> int:
        return 0 if self.success else 1

    def answer(self) -> dict[str, Any]:
        """What `--json` writes."""
        return {"rows": self.rows, "passed": self.passed, "rules": [result.answer() for result in self.results]}


def run_contract_test(contract_file: Path, data_file: Path) -> FileVerdict:
    """Raises ConfigError (exit code 2) for a contract that is not sound or data that cannot be read."""
    contract = load_contract(contract_file)
    data = read_data(data_file, contract)
    results: list[RuleResult] = []
    problems: list[Problem] = []
    for rule in contract.rules:
        try:
            results.append(_judged(rule, contract, data))
        except SluiceError as error:
            problems.append(Problem(f"rule {rule.id}: {error.message}", contract.file, rule.line, error.hint))
    if problems:
        raise ConfigError.of(problems)
    lacking = tuple(f"the file has no column {name!r}; its values count as null" for name in data.lacking)
    return FileVerdict(contract, data.frame.rows, results, lacking)


def _judged(rule: Rule, contract: Contract, data: Data) -> RuleResult:
    judge = rule.compile(contract.types_in_files)
    about_columns = rule.kind.startswith(("expect_table_column", "expect_column_to_exist", "ExpectTableColumn", "ExpectColumnToExist"))
    verdict = judge.judge(data.found if rule.scope is Scope.SET and about_columns else data.frame)
    if isinstance(verdict, RowVerdict):
        return RuleResult(rule, judge.engine, verdict.success, verdict.evaluated, verdict.failed)
    return RuleResult(rule, judge.engine, verdict.success, observed=verdict.observed)
