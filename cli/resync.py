"""`resync` and `snapshot`: copies that are made again."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.styles import LogFormat
from pipeline.errors import EXIT_NO


def resync(
    file: PipelineFile,
    yes: Annotated[bool, typer.Option("--yes", help="Does it. Without this it is only said, and the exit code is 1.")] = False,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Begins anew after a lost slot, a changed source or a lost state folder: the next `sync` or `run` copies everything again.

    Sinks keep serving what they hold; rows that the new copies lack go from them when those are whole. Says what it will do, and does it
    with --yes. The pipeline must not be running.

    \b
    Examples:
      sluice resync pipeline.yaml
      sluice resync pipeline.yaml --yes
    """
    speak(verbose, log_format)
    from cli.answers import answer_json, answer_line, answer_lines
    from pipeline.load import load_pipeline

    pipeline = load_pipeline(file)
    from dataflows.resync import resync as begin_anew

    found = begin_anew(pipeline, do=yes)
    if json:
        answer_json(
            {
                "pipeline": pipeline.name,
                "done": yes,
                "sources": dict(found.sources),
                "adopted_sinks": list(found.adopted),
                "new_journal": found.new_journal,
            }
        )
    else:
        if found.new_journal:
            answer_line("a new journal: there is none in the state folder")
        for name, actions in found.sources.items():
            answer_line(f"source {name} begins anew:")
            for action in actions:
                answer_lines(action, "  + ")
        for name in found.adopted:
            answer_line(f"sink {name}: taken over from another journal; its rows stay until the new copies are whole")
        answer_line(f"done; the copies are made by `sluice sync {file}` or `sluice run {file}`" if yes else "nothing done yet: add --yes")
    raise typer.Exit(0 if yes else EXIT_NO)


def snapshot(
    file: PipelineFile,
    table: Annotated[str, typer.Option("--table", metavar="TABLE", help="The table, as the source names it.", show_default=False)],
    sink: Annotated[str | None, typer.Option("--sink", metavar="SINK", help="Copies for this sink alone.", show_default=False)] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Copies a table again while streaming goes on.

    The running service begins within a second or two; where none runs, the next `sync` or `run` does it. Rows that the copy lacks go from
    the sinks when it is whole.

    \b
    Examples:
      sluice snapshot pipeline.yaml --table public.orders
      sluice snapshot pipeline.yaml --table public.orders --sink warehouse
    """
    speak(verbose, log_format)
    from cli.answers import answer_json, answer_line
    from pipeline.load import load_pipeline

    pipeline = load_pipeline(file)
    from dataflows.snapshot import request_copy

    asked = request_copy(pipeline, table, sink)
    if json:
        answer_json({"pipeline": pipeline.name, "dataset": asked.dataset, "sink": sink, "running": asked.running})
    else:
        whom = f"the sink {sink}" if sink else "all sinks"
        when = "now" if asked.running else f"when `sluice sync {file}` or `sluice run {file}` comes"
        answer_line(f"{table} is copied again for {whom}, {when}")
