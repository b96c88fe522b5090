"""What `check` finds without any server: a pipeline file with its contracts and routes, or one contract."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.offline_maps import enriched_schemas, map_problems, order_problems
from dataflows.contracts_in_force import pending_notes
from journal.schema import Column, TableSchema
from journal.types import parse_type
from pipeline.document import read_document
from pipeline.errors import ConfigError, Problem, SluiceError
from pipeline.load import Reading, read_pipeline
from pipeline.model import Dataset, Pipeline, Route
from pipeline.names import nearest
from quality.contract import Contract, Property
from quality.contract_reading import load_contract
from quality.logical_types import family_of
from quality.references import strange_lookups
from quality.rule_costs import rule_costs
from quality.rules import Rule, Scope
from sinks.routing import route_problems

_KIND = re.compile(rb"""^["']?kind["']?[ ]*:[ ]*["']?DataContract["']?[ ]*(#.*)?\r?$""", re.MULTILINE)
_HEAD = 1 << 20  # bytes in which a contract says that it is one: larger ones are refused
_WHERE_IT_RUNS = {
    Scope.ROW: "the gate, each row",
    Scope.BATCH: "the gate, rows of a batch together",
    Scope.KEY: "the gate, each row beside what it was before",
    Scope.SET: "over the whole set: `contract test`, not the gate",
}


@dataclass
class Checked:
    """What a file is and what is wrong with it. `notes` are worth knowing and stop nothing."""

    kind: str  # pipeline | contract
    problems: list[Problem]
    notes: list[str] = field(default_factory=list)
    contracts: dict[str, Contract] = field(default_factory=dict)
    pipeline: Pipeline | None = None
    costs: dict[str, Mapping[str, float | None]] = field(default_factory=dict)  # dataset -> rule -> nanoseconds a row

    def measure(self) -> None:
        """Finds out what the rules cost."""
        if not self.problems:
            self.costs = {name: rule_costs(contract) for name, contract in self.contracts.items()}


def check_file(file: Path) -> Checked:
    """Raises ConfigError for a file that cannot be read at all; whatever else is wrong is in `problems`."""
    return _check_contract(file) if is_contract(file) else _check_pipeline(read_pipeline(file))


def is_contract(file: Path) -> bool:
    """Whether a file is a contract, by what is in it. Raises ConfigError for one that cannot be read."""
    try:
        with file.open("rb") as source:
            if _KIND.search(source.read(_HEAD)):
                return True
    except (OSError, ValueError):
        pass  # read_document says why
    try:
        content = read_document(file, {}).content
    except ConfigError as error:
        if any(problem.line for problem in error.problems):
            return False
        raise
    if not isinstance(content, dict):
        return False
    return (
        content.get("kind") == "DataContract"
        or "dataContractSpecification" in content
        or ("apiVersion" in content and not {"pipeline", "sources", "sinks"} & content.keys())
    )


def _check_contract(file: Path) -> Checked:
    try:
        contract = load_contract(file)
    except ConfigError as error:
        if not any(problem.line for problem in error.problems):
            raise
        return Checked("contract", list(error.problems))
    return Checked("contract", _engine_problems(contract), _holding_nothing(contract), {contract.dataset: contract})


def _check_pipeline(reading: Reading) -> Checked:
    found = Checked("pipeline", list(reading.problems), pipeline=reading.pipeline)
    schemas: dict[str, TableSchema] = {}
    for name, dataset in reading.datasets.items():
        if dataset.contract is None or not dataset.contract.is_file():
            continue
        try:
            contract = found.contracts[name] = load_contract(dataset.contract)
        except ConfigError as error:
            found.problems += error.problems
            continue
        found.problems += _engine_problems(contract)
        found.problems += _key_problems(reading, dataset, contract)
        if reading.pipeline is not None:
            found.problems += strange_lookups(contract, reading.pipeline.lookups)
        found.notes += _holding_nothing(contract)
        if contract.dataset not in (name, *(feed.table.rpartition(".")[2] for feed in dataset.feeds)):
            found.notes.append(f"the contract of `{name}`, {dataset.contract.name}, is written for `{contract.dataset}`")
        schemas[name] = schema_of(contract, name, dataset.key)
    shapes: dict[str, TableSchema | None] = dict(schemas)
    shapes |= {name: None for name, dataset in reading.datasets.items() if dataset.enrich is not None}
    if reading.pipeline is not None:
        found.problems += map_problems(reading.pipeline)
        try:
            found.notes += pending_notes(reading.pipeline)
        except SluiceError as error:  # of the journal, which is not what is checked
            found.notes.append(f"what contracts are in force is not known: {error.message}")
        shapes |= enriched_schemas(reading.pipeline, found.problems)
        found.problems += order_problems(reading, shapes)
    if reading.pipeline is not None:
        found.notes += _owners_that_are_none(reading.pipeline, found.contracts.values())
    for sink in reading.sinks.values():
        for route in (sink.routes or {}).values():
            found.problems += _route_problems(reading, sink.name, route, shapes.get(route.dataset))
    return found


def _owners_that_are_none(pipeline: Pipeline, contracts: Iterable[Contract]) -> list[str]:
    """Of channels of alerts that nothing would ever come by."""
    known = {contract.owner for contract in contracts} | {pipeline.owner}
    channels = pipeline.alerts.channels if pipeline.alerts is not None else {}
    return [
        f"the channel `{name}` is for the owner `{owner}`, whom no contract names"
        for name, channel in channels.items()
        for owner in channel.owners
        if owner not in known
    ]


def schema_of(contract: Contract, dataset: str, key: Sequence[str] = ()) -> TableSchema:
    """The columns of a dataset as its contract tells them."""
    columns = tuple(Column(prop.column, _type_of(prop), nullable=not prop.required) for prop in contract.properties)
    return TableSchema(dataset, columns, tuple(key) or contract.key)


def _type_of(prop: Property) -> str:
    """The type in Postgres' words: the physical one where Postgres has it, else what the logical one is held as."""
    if prop.physical_type and family_of(prop.physical_type) != "other":
        return str(parse_type(prop.physical_type))
    held = prop.held()
    return "text" if held is None else held.postgres


def _route_problems(reading: Reading, sink: str, route: Route, schema: TableSchema | None) -> list[Problem]:
    file = reading.document.file
    found = []
    for problem in route_problems(route, schema, file):
        key = next((key for key in ("where", "columns") if f"`{key}" in problem.message), None)
        line = reading.document.line(("sinks", sink, "datasets", route.dataset, *([key] if key else [])))
        found.append(Problem(f"sink `{sink}`, {problem.message}", file, line, problem.hint))
    return found


def _key_problems(reading: Reading, dataset: Dataset, contract: Contract) -> list[Problem]:
    file, line = reading.document.file, reading.document.line(("datasets", dataset.name, "key"))
    return [
        Problem(f"`datasets.{dataset.name}.key`: the contract has no column {name!r}", file, line, nearest(name, contract.columns))
        for name in dataset.key
        if name not in contract.columns
    ]


def _engine_problems(contract: Contract) -> list[Problem]:
    return [
        Problem(f"rule {rule.id}: {error.message}", contract.file, rule.line, error.hint)
        for rule in contract.rules
        if isinstance(error := engine_of(rule, contract), SluiceError)
    ]


def engine_of(rule: Rule, contract: Contract) -> str | SluiceError:
    """What evaluates a rule on the types that the contract tells, or why nothing can."""
    try:
        return rule.compile(contract.types_in_files).engine
    except SluiceError as error:
        return error


def _holding_nothing(contract: Contract) -> list[str]:
    """What is said in a contract and holds back no row."""
    notes: list[str] = []
    over_sets = [rule.id for rule in contract.rules if rule.scope is Scope.SET]
    if over_sets:
        notes.append(f"{contract.dataset}: {', '.join(over_sets)} look at the whole set; they hold back no row")
    unheeded = "are not judged; a rule `references` of the engine sluice is"
    return notes + [f"{contract.dataset}: relationships (line {line}) {unheeded}" for line in contract.relationships]


def rule_json(rule: Rule, contract: Contract, costs: Mapping[str, float | None]) -> dict[str, Any]:
    """A rule as `check --json` explains it; `costs` by rule, as far as they are known."""
    return {
        "id": rule.id,
        "kind": rule.kind,
        "column": rule.column,
        "columns": list(rule.columns),
        "scope": rule.scope.value,
        "engine": str(engine_of(rule, contract)),
        "where": _WHERE_IT_RUNS[rule.scope],
        "ns_per_row": costs.get(rule.id),
        "action": rule.action.value,
        "on": sorted(rule.on),
        "mostly": rule.mostly,
        "severity": rule.severity,
        "says": rule.says,
        "generated": rule.generated,
        "line": rule.line,
    }
