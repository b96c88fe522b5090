"""`plan`: what would be made at the source and in the sinks, and what does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.styles import LogFormat

if TYPE_CHECKING:
    from cli.planning import Plan


def plan(file: PipelineFile, json: AsJson = False, verbose: Verbose = False, log_format: Log = LogFormat.console) -> None:
    """Connects, changes nothing, and says what `sync` or `run` would make or change at the source and in each sink.

    Contracts and filters are checked against the columns that are there. Exit code 1 for problems, 2 for a server that can't be reached
    or refuses, and for a table that isn't there.

    \b
    Examples:
      sluice plan pipeline.yaml
      sluice plan pipeline.yaml --json
    """
    speak(verbose, log_format)
    from cli.answers import answer_json
    from pipeline.load import load_pipeline

    pipeline = load_pipeline(file)
    from cli.planning import make_plan, plan_json

    found = make_plan(pipeline)
    if json:
        answer_json(plan_json(found))
    else:
        _show(found)
    raise typer.Exit(found.exit_code)


def _show(plan: Plan) -> None:
    from cli.answers import answer_line, answer_lines
    from cli.ending import tell

    if plan.journal.actions:
        answer_line("journal:")
    for action in plan.journal.actions:
        answer_lines(action, "  + ")
    for name, source in plan.sources.items():
        answer_line(f"source {name}: {len(source.tables)} table{'s' if len(source.tables) != 1 else ''}")
        for table, schema in source.tables.items():
            key = f"key {', '.join(schema.key)}" if schema.key else "no key"
            answer_line(f"  {table} -> {schema.dataset}: {len(schema.columns)} columns, {key}")
        for action in source.actions or (["nothing to make"] if source.error is None else []):
            answer_lines(action, "  + ")
        for advice in source.advice:
            answer_lines(str(advice), "  advice: ")
    for name, sink in plan.sinks.items():
        answer_line(f"sink {name}:")
        for statement in sink.statements or (["nothing to make"] if sink.error is None else []):
            answer_lines(statement, "  + ")
    for note in plan.notes:
        answer_lines(note, "note: ")
    if plan.problems:
        answer_line(f"{len(plan.problems)} problem{'s' if len(plan.problems) > 1 else ''}:")
        for problem in plan.problems:
            answer_lines(str(problem), "")
    for error in plan.errors:
        tell(error)
