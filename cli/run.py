"""`run`, `sync` and `verify`: pipelines at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.loading import loading
from cli.options import AsJson, Log, PipelineFile, Verbose, as_arguments, speak
from cli.styles import LogFormat
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.model import Pipeline

WATCH = "watch"


def run(
    file: PipelineFile,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="PROCESS", help="Runs one process: `ingest`, `deliver:SINK` or `watch`.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, metavar="N", help="With --only: so many processes share the work.", show_default=False),
    ] = None,
    addresses: Annotated[
        str | None,
        typer.Option(
            "--addresses", metavar="LIST", help="Of workers on several machines: HOST:PORT of each, with commas.", show_default=False
        ),
    ] = None,
    process: Annotated[
        int | None, typer.Option("--process", min=0, metavar="I", help="Which of --addresses this one is, from 0.", show_default=False)
    ] = None,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Moves changes as a service, until it is told to stop.

    Without --only it runs a process for the sources and one for each sink, and `watch` where a dataset has a contract; it starts again
    what dies, and stops them in order. SIGTERM and SIGINT drain: what is open is finished, committed and acknowledged, within ten
    seconds. A second one ends at once.

    --workers keeps several processes that share one sink, or that read topics for ingest, on this machine. On several machines each runs
    one of them, with the same --addresses and a --process of its own.

    \b
    Examples:
      sluice run pipeline.yaml
      sluice run pipeline.yaml --only ingest
      sluice run pipeline.yaml --only deliver:warehouse --log-format json
      sluice run pipeline.yaml --only deliver:warehouse --workers 4
    """
    speak(verbose, log_format, only if process is None else f"{only}/{process}")
    with loading():
        from pipeline.load import load_pipeline

        pipeline = load_pipeline(file)
        if only is None:
            from dataflows.service import run_all
        elif only == WATCH:
            from dataflows.watch import run_watch
        else:
            from dataflows.process import run_one
    arguments = ["run", str(file), *as_arguments(verbose, log_format)]
    if workers is not None or addresses is not None or process is not None:
        raise typer.Exit(_shared(pipeline, only, workers, addresses, process, arguments))
    if only == WATCH:
        raise typer.Exit(run_watch(pipeline))
    if only is not None:
        raise typer.Exit(run_one(pipeline, only))
    raise typer.Exit(run_all(pipeline, arguments))


def _shared(
    pipeline: Pipeline, only: str | None, workers: int | None, addresses: str | None, process: int | None, arguments: list[str]
) -> int:
    """Runs the workers of a process on this machine, or the one that `process` says. Returns the exit code; raises ConfigError."""
    from dataflows.process import run_one, sink_named
    from dataflows.worker import Worker
    from dataflows.workers import check_workers, run_workers

    if only is None:
        raise ConfigError(
            "--workers, --addresses and --process are of one process", hint="say which: --only deliver:SINK, or --only ingest"
        )
    if only == WATCH:
        raise ConfigError("watch: there is one of it, which does little", hint="start it without --workers, --addresses and --process")
    named = tuple(one.strip() for one in (addresses or "").split(",")) if addresses is not None else ()
    if (addresses is None) != (process is None) or (process is not None and process >= len(named)):
        raise ConfigError("--addresses names all workers, and --process says which of them this one is", hint="from 0: --process 0")
    if addresses is not None and (workers not in (None, len(named)) or not all(_is_address(one) for one in named)):
        raise ConfigError(f"--addresses {addresses}: so many HOST:PORT as there are workers", hint="a:9100,b:9100 for two")
    of = workers if workers is not None and addresses is None else len(named)
    check_workers(pipeline, only, None if only == "ingest" else sink_named(pipeline, only), of)
    if of == 1:
        return run_one(pipeline, only)
    if process is None:
        return run_workers(pipeline, only, of, arguments)
    return run_one(pipeline, only, Worker(process, of, named))


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon) and port.isdecimal() and 0 < int(port) < 65536


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
