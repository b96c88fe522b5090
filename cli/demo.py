"""`demo`: the whole story on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Log, Verbose, speak
from cli.styles import LogFormat


def demo(
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Where to put it; default: a new temporary folder.", show_default=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leaves everything running at the end, until Ctrl-C.")] = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Shows the main job on real parts: three Postgres servers, live writes, bad orders, and a process killed in the middle.

    It copies a portal's tables into a DuckDB warehouse and two regional stores, follows what an application writes, holds back the bad
    orders, kills one process with SIGKILL, and proves with `verify` that nothing was lost. It takes about a minute.

    \b
    Examples:
      sluice demo
      sluice demo --keep --dir demo
    """
    speak(verbose, log_format)
    from rich.console import Console

    from examples.demo import demo as run

    place = folder.absolute() if folder is not None else Path(tempfile.mkdtemp(prefix="sluice-demo-"))
    raise typer.Exit(run(Console(), place, keep=keep))
