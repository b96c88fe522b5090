"""Which rule of a contract runs where, by what, and what becomes of a row that breaks it: for `sluice check`."""

from __future__ import annotations

from dataclasses import dataclass

from quality.contract import Contract
from quality.rules import OPERATIONS, Scope, Types

_COST = {"arrow": "whole columns", "duckdb": "one statement a batch", "python": "each distinct value", "gx": "a micro-batch"}


@dataclass(frozen=True, slots=True)
class RuleExplanation:
    """One rule in words.

    where    `gate`: every change before it is delivered; `auditor`: windows of delivered changes; both judge in `contract test`
    engine   arrow, duckdb, python or gx; `cost` says what that costs
    on       operations that the rule is meant for
    """

    id: str
    kind: str
    columns: tuple[str, ...]
    says: str
    where: str
    engine: str
    cost: str
    action: str
    on: tuple[str, ...]
    line: int
    generated: bool


def explain(contract: Contract, types: Types | None = None) -> list[RuleExplanation]:
    """The rules in the order of the file. `types`: how a table holds the columns; the contract's own types where not given."""
    found: list[RuleExplanation] = []
    for rule in contract.rules:
        engine = rule.compile(types or contract.types_in_files).engine
        found.append(
            RuleExplanation(
                id=rule.id,
                kind=rule.kind,
                columns=rule.columns,
                says=rule.says,
                where="auditor" if rule.scope is Scope.SET else "gate",
                engine=engine,
                cost=_COST.get(engine, engine),
                action=str(rule.action),
                on=tuple(word for word in OPERATIONS if word in rule.on) if rule.scope is not Scope.SET else (),
                line=rule.line,
                generated=rule.generated,
            )
        )
    return found
