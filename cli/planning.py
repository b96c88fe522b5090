"""What `plan` finds by looking at every server: what would be made, what does not fit. Nothing is changed anywhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from dataflows.build import build_sink, build_source
from dataflows.contracts_in_force import pending_notes
from dataflows.enriching import Enrichments
from dataflows.lookups import Lookups
from dataflows.maps import Maps
from dataflows.service import resume_of
from dataflows.versions import check_version
from journal.opening import to_be_made
from journal.schema import TableSchema
from pipeline.errors import EXIT_NO, EXIT_USAGE, ConfigError, Problem, SluiceError
from pipeline.model import Pipeline, Route, SinkBlock, SourceBlock
from pipeline.names import nearest
from quality.contract_reading import load_contract
from quality.gate import Gate
from quality.references import strange_lookups
from sinks.base import Target
from sinks.routing import Router

_NO_KEY = b"a plan hashes nothing"
Value = TypeVar("Value")


@dataclass
class SourcePlan:
    """One source: what would be made there, as statements or words, the tables that it has, and as what they come out of their maps."""

    actions: list[str] = field(default_factory=list)
    tables: dict[str, TableSchema] = field(default_factory=dict)
    mapped: dict[str, TableSchema] = field(default_factory=dict)
    advice: list[Problem] = field(default_factory=list)
    error: SluiceError | None = None


@dataclass
class SinkPlan:
    """One sink: the statements that would be run there."""

    statements: list[str] = field(default_factory=list)
    error: SluiceError | None = None


@dataclass
class JournalPlan:
    """The journal: what would be made for it on a server; nothing where it is a file."""

    actions: list[str] = field(default_factory=list)
    error: SluiceError | None = None


@dataclass
class Plan:
    """`missing`: a table that the pipeline names is not there, which is an error of the file."""

    pipeline: Pipeline
    journal: JournalPlan = field(default_factory=JournalPlan)
    sources: dict[str, SourcePlan] = field(default_factory=dict)
    sinks: dict[str, SinkPlan] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    missing: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def errors(self) -> list[SluiceError]:
        """Of servers that could not be asked."""
        found = [self.journal.error, *(source.error for source in self.sources.values()), *(sink.error for sink in self.sinks.values())]
        return [error for error in found if error is not None]

    @property
    def exit_code(self) -> int:
        """2 where a server could not be asked or lacks a table, else 1 for problems."""
        if self.missing or any(error.exit_code == EXIT_USAGE for error in self.errors):
            return EXIT_USAGE
        return EXIT_NO if self.problems or self.errors else 0


def make_plan(pipeline: Pipeline) -> Plan:
    """Connects to every source and sink, and to the journal where it is in Kafka.

    A server that cannot be asked is an error of its own part; the others are looked at.
    """
    plan = Plan(pipeline)
    actions, error = _attempt(lambda: to_be_made(pipeline))
    plan.journal = JournalPlan(actions or [], error)
    maps = Maps(pipeline, plan.problems)
    for block in pipeline.sources.values():
        plan.sources[block.name] = _source(plan, block, maps)
    schemas = _datasets(plan)
    _contracts(plan, schemas)
    plan.notes = _attempt(lambda: pending_notes(pipeline))[0] or []
    shapes = _enriched(plan, schemas)
    for sink in pipeline.sinks.values():
        plan.sinks[sink.name] = _sink(plan, sink, shapes, schemas.keys())
    return plan


def _attempt(do: Callable[[], Value]) -> tuple[Value | None, SluiceError | None]:
    try:
        return do(), None
    except SluiceError as error:
        return None, error


def _source(plan: Plan, block: SourceBlock, maps: Maps) -> SourcePlan:
    resume, error = _attempt(lambda: resume_of(plan.pipeline, block.name))
    if resume is None:
        return SourcePlan(error=error)
    with closing(build_source(plan.pipeline, block)) as source:
        found, error = _attempt(lambda: source.preflight(resume))
    if found is None:
        return SourcePlan(error=error)
    line = block.line
    plan.problems += [
        one if one.file else Problem(f"source {block.name}: {one.message}", plan.pipeline.file, line, one.hint) for one in found.problems
    ]
    plan.missing |= bool(found.missing)
    mapped, problems = maps.tables(block.name, found.tables, found.old_rows)
    plan.problems += problems
    return SourcePlan(list(found.actions), dict(found.tables), mapped, list(found.advice))


def _datasets(plan: Plan) -> dict[str, TableSchema]:
    """Dataset -> its columns now. Two tables under one name are a problem, unless its entry names them."""
    found: dict[str, TableSchema] = {}
    origins: dict[str, str] = {}
    for name, source in plan.sources.items():
        for table, schema in source.mapped.items():
            origin = origins.setdefault(schema.dataset, f"{name}.{table}")
            if origin != f"{name}.{table}" and plan.pipeline.dataset_of(name, table) is None:
                message = f"{origin} and {name}.{table} would both be the dataset `{schema.dataset}`"
                plan.problems.append(
                    Problem(message, plan.pipeline.file, plan.pipeline.sources[name].line, "name one of them under `datasets`")
                )
                continue
            found[schema.dataset] = schema
    return found


def _enriched(plan: Plan, schemas: Mapping[str, TableSchema]) -> dict[str, TableSchema]:
    """The same datasets with what lookups add to them; one of which that cannot be told is a problem, and left out."""
    pipeline, file = plan.pipeline, plan.pipeline.file
    lookups = Lookups(pipeline)
    for source, found in plan.sources.items():
        for table, schema in found.mapped.items():
            try:
                lookups.know(source, table, schema)
            except ConfigError as error:
                line = pipeline.lookups[lookups.of(source, table)[0]].line
                plan.problems += [replace(one, file=file, line=line) for one in error.problems]
    enrichments = Enrichments(pipeline, lookups, plan.problems)
    shapes: dict[str, TableSchema] = {}
    for name, schema in schemas.items():
        try:
            shapes[name] = enrichments.schema(schema)
            if name in pipeline.datasets:
                check_version(pipeline.datasets[name], shapes[name])
        except ConfigError as error:
            line = pipeline.datasets[name].line
            plan.problems += [one if one.file else replace(one, file=file, line=line) for one in error.problems]
    return shapes


def _contracts(plan: Plan, schemas: Mapping[str, TableSchema]) -> None:
    for name, dataset in plan.pipeline.datasets.items():
        if dataset.contract is None:
            continue
        try:
            contract = load_contract(dataset.contract)
            plan.problems += strange_lookups(contract, plan.pipeline.lookups)
            if name in schemas:
                Gate(contract, schemas[name])
        except ConfigError as error:
            plan.problems += error.problems


def _sink(plan: Plan, block: SinkBlock, schemas: Mapping[str, TableSchema], known: Collection[str]) -> SinkPlan:
    targets = []
    complete = all(source.error is None for source in plan.sources.values())
    for name, written in (block.routes or {}).items():
        if name not in known and complete:
            message = f"the sink `{block.name}` takes `{name}`, which no table is"
            plan.problems.append(Problem(message, plan.pipeline.file, written.line, nearest(name, known)))
    for name, schema in schemas.items():
        route = block.route(name)
        if route is not None and (target := _target(plan, route, schema)) is not None:
            targets.append(target)
    with closing(build_sink(plan.pipeline, block)) as sink:
        statements, error = _attempt(lambda: list(sink.plan(targets)))
    return SinkPlan(statements or [], error)


def _target(plan: Plan, route: Route, schema: TableSchema) -> Target | None:
    try:
        return Router(route, schema, _NO_KEY, plan.pipeline.file).target
    except ConfigError as error:
        plan.problems += error.problems
        return None


def plan_json(plan: Plan) -> dict[str, Any]:
    """The answer of `plan --json`."""
    from cli.ending import problem_json

    return {
        "pipeline": plan.pipeline.name,
        "ok": plan.exit_code == 0,
        "problems": [problem_json(problem) for problem in plan.problems],
        "notes": plan.notes,
        "journal": {"actions": plan.journal.actions, "error": _error(plan.journal.error)},
        "sources": {
            name: {
                "actions": source.actions,
                "advice": [problem_json(one) for one in source.advice],
                "tables": {table: _columns(schema) for table, schema in source.tables.items()},
                "error": _error(source.error),
            }
            for name, source in plan.sources.items()
        },
        "sinks": {name: {"statements": sink.statements, "error": _error(sink.error)} for name, sink in plan.sinks.items()},
    }


def _columns(schema: TableSchema) -> dict[str, Any]:
    columns = [{"name": column.name, "type": column.type, "nullable": column.nullable} for column in schema.columns]
    return {"dataset": schema.dataset, "key": list(schema.key), "columns": columns}


def _error(error: SluiceError | None) -> dict[str, Any] | None:
    return None if error is None else {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
