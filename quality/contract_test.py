"""Judges a file by a contract, without any server: the engine of `sluice contract test`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError, Problem, SluiceError
from pipeline.names import nearest
from quality.contract import Contract
from quality.contract_reading import load_contract
from quality.data_file import Data, read_data
from quality.file_steps import Changes
from quality.kernels.registry import snake_name
from quality.kernels.verdict import RowVerdict
from quality.lookup_file import LookupFile
from quality.references import References
from quality.rules import Action, Judge, RowJudge, Rule, Scope, SetJudge
from quality.step import StepJudge

Mask = npt.NDArray[np.bool_]
_NO_KEY = "it compares a row with the one before it of the same key, and the contract has no key"


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


def run_contract_test(contract_file: Path, data_file: Path, lookups: Mapping[str, LookupFile] = MappingProxyType({})) -> FileVerdict:
    """`lookups` are files in which `references` looks. Raises ConfigError (exit code 2) for a contract that is not sound or data that
    cannot be read."""
    contract = load_contract(contract_file)
    strange = sorted(set(lookups) - {rule.lookup for rule in contract.rules})
    if strange:
        known = nearest(strange[0], {rule.lookup for rule in contract.rules if rule.lookup})
        raise ConfigError(f"no rule of the contract looks in the lookup {strange[0]!r}", hint=known)
    data = read_data(data_file, contract)
    results: dict[str, RuleResult] = {}
    problems: list[Problem] = []

    def told(rule: Rule, error: SluiceError) -> None:
        problems.append(Problem(f"rule {rule.id}: {error.message}", contract.file, rule.line, error.hint))

    compiled: dict[str, Judge] = {}
    for rule in contract.rules:
        try:
            compiled[rule.id] = rule.compile(contract.types_in_files)
        except SluiceError as error:
            told(rule, error)
    judges = [(rule, compiled[rule.id]) for rule in contract.rules if rule.id in compiled]
    steps = [(rule, judge) for rule, judge in judges if isinstance(judge, StepJudge)]
    changes = Changes(contract, data.frame) if steps and contract.key else None
    for rule, judge in judges:
        if not isinstance(judge, StepJudge):
            try:
                results[rule.id] = _judged(rule, judge, contract, data, lookups, changes)
            except SluiceError as error:
                told(rule, error)
        elif changes is None:
            told(rule, SluiceError(_NO_KEY, hint="primaryKey: true, on the property that identifies a row"))
    if changes is not None:
        verdicts = changes.judge(steps, _held(results.values(), data.frame.rows))
        for (rule, _), verdict in zip(steps, verdicts, strict=True):
            results[rule.id] = RuleResult(rule, "arrow", verdict.success, verdict.evaluated, verdict.failed)
    if problems:
        raise ConfigError.of(problems)
    lacking = tuple(f"the file has no column {name!r}; its values count as null" for name in data.lacking)
    return FileVerdict(contract, data.frame.rows, [results[rule.id] for rule in contract.rules], lacking)


def _held(results: Iterable[RuleResult], rows: int) -> Mask:
    """bool[rows] of those that the gate would not let pass."""
    found = np.zeros(rows, np.bool_)
    for result in results:
        if result.failed is not None and result.rule.action is not Action.WARN:
            found |= result.failed
    return found


def _judged(
    rule: Rule, judge: RowJudge | SetJudge, contract: Contract, data: Data, lookups: Mapping[str, LookupFile], changes: Changes | None
) -> RuleResult:
    if isinstance(judge, References):
        if judge.lookup not in lookups:
            said = f"it looks in the lookup {judge.lookup}, which is not here"
            raise SluiceError(said, hint=f"--lookup {judge.lookup}=FILE gives its rows")
        judge = judge.among({judge.lookup: lookups[judge.lookup].read(judge, contract)})
    if changes is not None and rule.scope is Scope.BATCH:
        kept = changes.latest
        verdict = judge.judge(data.frame.where(kept))
        assert isinstance(verdict, RowVerdict)  # noqa: S101  (its scope says so)
        failed = np.zeros(data.frame.rows, np.bool_)
        failed[kept] = verdict.failed
        return RuleResult(rule, judge.engine, verdict.success, verdict.evaluated, failed)
    about_columns = snake_name(rule.kind).startswith(("expect_table_column", "expect_column_to_exist"))
    verdict = judge.judge(data.found if rule.scope is Scope.SET and about_columns else data.frame)
    if isinstance(verdict, RowVerdict):
        return RuleResult(rule, judge.engine, verdict.success, verdict.evaluated, verdict.failed)
    return RuleResult(rule, judge.engine, verdict.success, observed=verdict.observed)
