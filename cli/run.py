"""`run`, `sync` and `verify`: pipelines at work."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.loading import loading
from cli.options import AsJson, Log, PipelineFile, Verbose, as_arguments, speak
from cli.styles import LogFormat


def run(
    file: PipelineFile,
    only: Annotated[
        str | None, typer.Option("--only", metavar="PROCESS", help="Runs one process: `ingest`, or `deliver:SINK`.", show_default=False)
    ] = None,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Moves changes as a service, until it is told to stop.

    Without --only it runs a process for the sources and one for each sink, starts again what dies, and stops them in order. SIGTERM and
    SIGINT drain: what is open is finished, committed and acknowledged, within ten seconds. A second one ends at once.

    \b
    Examples:
      sluice run pipeline.yaml
      sluice run pipeline.yaml --only ingest
      sluice run pipeline.yaml --only deliver:warehouse --log-format json
    """
    speak(verbose, log_format, only)
    with loading():
        from pipeline.load import load_pipeline

        pipeline = load_pipeline(file)
        if only is None:
            from dataflows.service import run_all
        else:
            from dataflows.process import run_one
    if only is not None:
        raise typer.Exit(run_one(pipeline, only))
    raise typer.Exit(run_all(pipeline, ["run", str(file), *as_arguments(verbose, log_format)]))


def sync(
    file: PipelineFile,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, metavar="SECONDS", help="How long to wait for a server that is away.")
    ] = 60.0,
    fail_on_quarantine: Annotated[
        bool, typer.Option("--fail-on-quarantine", help="Ends with exit code 3 when something is in quarantine.")
    ] = False,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Brings every sink to where the sources are now, then ends.

    Makes what is missing, copies, and streams until every sink holds all that was committed at the sources when it began. A sink that is
    away is waited for; the others are finished all the same.

    \b
    Examples:
      sluice sync pipeline.yaml
      sluice sync pipeline.yaml --timeout 300 --fail-on-quarantine
    """
    speak(verbose, log_format)
    with loading():
        from cli.answers import answer_json, answer_line
        from cli.progress import following
        from pipeline.load import load_pipeline

        pipeline = load_pipeline(file)
        from dataflows.service import sync as bring

    arguments = ["run", str(file), *as_arguments(verbose, log_format)]
    with following(log_format) as progress:
        found = bring(pipeline, arguments, timeout=timeout, fail_on_quarantine=fail_on_quarantine, progress=progress)
    if json:
        answer_json({"pipeline": pipeline.name, "code": found.code, "failed": found.failed, "quarantined": found.quarantined})
    else:
        for name, reason in found.failed.items():
            answer_line(f"{name}: {reason}")
        if found.quarantined:
            answer_line(f"{found.quarantined} in quarantine: sluice quarantine list {file}")
        if not found.code:
            answer_line(f"{pipeline.name}: every sink holds what the sources had")
    raise typer.Exit(found.code)
