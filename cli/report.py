"""`report`: what data owners read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.styles import LogFormat


def report(
    file: PipelineFile,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write; default: reports/ in the state folder.", show_default=False)
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Writes the owners' reports: a page and a JSON file for each dataset, and an index. Prints their paths.

    The pages need nothing but themselves: send them, print them, or put them on any web server.

    \b
    Examples:
      sluice report pipeline.yaml
      sluice report pipeline.yaml --out /srv/www/quality
    """
    speak(verbose, log_format)
    from cli.answers import answer_json, answer_line
    from dataflows.reporting import report as write
    from pipeline.load import load_pipeline

    pipeline = load_pipeline(file)
    paths = write(pipeline, out or pipeline.state / "reports")
    if json:
        answer_json([str(path) for path in paths])
        return
    for path in paths:
        answer_line(str(path))
