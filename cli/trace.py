"""`trace`: one record, from its source to every sink."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.loading import loading
from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.styles import LogFormat
from pipeline.errors import EXIT_NO


def trace(
    file: PipelineFile,
    dataset: Annotated[str, typer.Option("--dataset", metavar="NAME", help="The dataset that the record is in.", show_default=False)],
    key: Annotated[
        list[str],
        typer.Option(
            "--key",
            metavar="[COLUMN=]VALUE",
            help="The record's key, as Postgres writes it: once for each of its columns; the bare value where it has one.",
            show_default=False,
        ),
    ],
    last: Annotated[int | None, typer.Option("--last", metavar="N", min=1, help="Only its last N changes.", show_default=False)] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Follows one record: where it came from, what judged it, and when each sink had it. Its newest change comes last.

    It answers from the state on disk, whether or not the service runs. The journal forgets changes that every sink has once its
    retention is over; then the sinks themselves are asked for the record. Exit code 1 for a key that nobody knows.

    \b
    Examples:
      sluice trace pipeline.yaml --dataset orders --key 123
      sluice trace pipeline.yaml --dataset stock --key region=eu --key id=7 --last 1
      sluice trace pipeline.yaml --dataset orders --key 123 --json
    """
    speak(verbose, log_format)
    with loading():
        from cli.answers import answer_json
        from cli.tracing import traced
        from cli.tracing_view import show
        from pipeline.load import load_pipeline

        pipeline = load_pipeline(file)
    answer = traced(pipeline, dataset, key, last)
    if json:
        answer_json(answer)
    else:
        show(answer)
    raise typer.Exit(0 if answer["known"] else EXIT_NO)
