"""`demo`: the whole story on this machine."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from typing import Annotated, Never

import typer

from cli.options import Log, Verbose, speak
from cli.styles import LogFormat


def demo(
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Where to put it; default: a new temporary folder.", show_default=False),
    ] = None,
    kafka: Annotated[
        bool | None,
        typer.Option(
            "--kafka/--no-kafka",
            help="A real Kafka broker (needs Java 17; fetched by Maven if need be), or an in-process one; default: what is there already.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leaves everything running at the end, until Ctrl-C.")] = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Shows the main job on real parts: Postgres servers, Kafka, live orders, bad ones, and a process killed in the middle.

    A portal writes orders to Postgres, two marketplaces send theirs through Kafka, each in its own way. They become one dataset, enriched
    from the portal's tables, in a DuckDB warehouse and two regional stores. Bad orders are held back, one process is killed with SIGKILL,
    and at the end `verify` and an account of every order show that nothing was lost. It takes about a minute.

    \b
    Examples:
      sluice demo
      sluice demo --keep --dir demo
      sluice demo --kafka
    """
    speak(verbose, log_format)
    from rich.console import Console

    from examples.demo import demo as run

    signal.signal(signal.SIGTERM, _end)
    place = folder.absolute() if folder is not None else Path(tempfile.mkdtemp(prefix="sluice-demo-"))
    raise typer.Exit(run(Console(), place, kafka=kafka, keep=keep))


def _end(number: int, _: object) -> Never:
    """Leaves through everything that has to be stopped."""
    raise SystemExit(128 + number)
