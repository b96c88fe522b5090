"""`verify`: whether the sinks hold what the sources hold."""

from __future__ import annotations

from typing import Any

import typer

from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.styles import LogFormat
from pipeline.errors import EXIT_NO


def verify(file: PipelineFile, json: AsJson = False, verbose: Verbose = False, log_format: Log = LogFormat.console) -> None:
    """Compares each sink with its source, row by row, and checks that the counts add up. Exit code 1 when they differ.

    Rows that are filtered, masked, in quarantine or kept on purpose are accounted for. It works while writes go on.

    \b
    Examples:
      sluice verify pipeline.yaml
      sluice verify pipeline.yaml --json
    """
    speak(verbose, log_format)
    from cli.answers import answer_json
    from pipeline.load import load_pipeline

    pipeline = load_pipeline(file)
    from dataflows.verify import differs
    from dataflows.verify import verify as compare

    answer = compare(pipeline)
    equal = not differs(answer)
    if json:
        answer_json(answer)
    else:
        _show(answer, equal)
    raise typer.Exit(0 if equal else EXIT_NO)


def _found(answer: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(dataset, sink, found) for dataset, sinks in answer["datasets"].items() for sink, found in sinks.items()]


def _show(answer: dict[str, Any], equal: bool) -> None:
    from cli.answers import amount, answer_line, answer_table

    counts = ["source_rows", "sink_rows", "quarantined", "patched", "missing", "extra", "different"]
    headings = ["rows at the source", "rows in the sink", "quarantined", "patched", "missing", "extra", "different"]
    rows = [[dataset, sink, *(amount(found[count]) for count in counts)] for dataset, sink, found in _found(answer)]
    answer_table(["dataset", "sink", *headings], rows, right=headings)
    for dataset, sink, found in _found(answer):
        for example in found.get("examples", ()):
            answer_line(f"  {dataset} in {sink}: {example}")
    why = "its source is a stream of changes, or its table is gone, and nothing tells the rows as they are now"
    for dataset, reason in answer["stopped"].items():
        answer_line(f"{dataset}: counted, not compared: {reason}")
    for dataset in sorted({dataset for dataset, _, found in _found(answer) if not found["compared"]} - set(answer["stopped"])):
        answer_line(f"{dataset}: counted, not compared: {why}")
    if not answer["conserved"]:
        answer_line("the counts do not add up: in is not delivered + filtered + quarantined + dropped")
    whole = all(found["compared"] for _, _, found in _found(answer))
    same = "every sink holds what its source holds" if whole else "nothing is missing in what was compared, and the counts add up"
    answer_line(same if equal else "they differ")
