"""`schema`: the pipeline file as editors know it."""

from __future__ import annotations

from cli.options import Log, Verbose, speak
from cli.styles import LogFormat


def schema(verbose: Verbose = False, log_format: Log = LogFormat.console) -> None:
    """Prints the JSON Schema of the pipeline file, with every kind of source and sink that is installed.

    An editor that knows it completes keys, explains them, and marks mistakes: begin the file with
    `# yaml-language-server: $schema=sluice.schema.json`.

    \b
    Example:
      sluice schema > sluice.schema.json
    """
    speak(verbose, log_format)
    from cli.answers import answer_json
    from pipeline.editor_schema import editor_schema

    answer_json(editor_schema())
