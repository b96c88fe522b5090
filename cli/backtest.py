"""`quarantine backtest` and `check --against journal`: what a contract would do, before it is in force."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.styles import LogFormat
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from journal.local import JournalReader
    from pipeline.model import Pipeline
    from quality.contract import Contract


def backtest(
    file: PipelineFile,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only records of this dataset.", show_default=False)] = None,
    contract: Annotated[
        Path | None, typer.Option("--contract", metavar="FILE", help="This contract, in place of the dataset's own.", show_default=False)
    ] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only records with this cause.", show_default=False)] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="At most so many records of a dataset, the newest.")] = 100_000,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Says which records would pass if the contract in the file were in force, by cause and rule. Changes nothing.

    \b
    Examples:
      sluice quarantine backtest pipeline.yaml --dataset orders
      sluice quarantine backtest pipeline.yaml --dataset orders --contract orders.next.odcs.yaml --json
    """
    speak(verbose, log_format)
    from cli.answers import answer_json
    from pipeline.load import load_pipeline

    found = quarantine_answer(load_pipeline(file), dataset, contract, group, last)
    if json:
        answer_json(found)
    else:
        for name, one in found.items():
            _show_quarantine(name, one)


def quarantine_answer(pipeline: Pipeline, dataset: str | None, file: Path | None, group: str | None, last: int) -> dict[str, Any]:
    """Dataset -> what its contract in the file would do to its records. Raises ConfigError before the first start."""
    from dataflows.backtest import against_quarantine

    wanted = _contracts(pipeline, dataset, file)
    with _reader(pipeline) as reader:
        return {name: against_quarantine(reader, pipeline, name, one, last=last, group=group) for name, one in wanted.items()}


def journal_answer(pipeline: Pipeline, dataset: str | None, last: int) -> dict[str, Any]:
    """Dataset -> what its contract in the file would have done to the changes that have passed. Raises ConfigError likewise."""
    from cli.records import Masks
    from dataflows.backtest import against_journal

    wanted = _contracts(pipeline, dataset, None)
    masks = Masks(pipeline)
    with _reader(pipeline) as reader:
        return {name: against_journal(reader, pipeline, name, one, last, masks.row) for name, one in wanted.items()}


def _contracts(pipeline: Pipeline, dataset: str | None, file: Path | None) -> dict[str, Contract]:
    """The contracts as they are written."""
    from pipeline.names import nearest
    from quality.contract_reading import load_contract

    named = {name: one.contract for name, one in pipeline.datasets.items() if one.contract is not None or file is not None}
    if dataset is not None:
        if dataset not in named:
            raise ConfigError(f"no dataset {dataset!r} with a contract is in {pipeline.name}", hint=nearest(dataset, named))
        named = {dataset: named[dataset]}
    if file is not None and len(named) != 1:
        raise ConfigError("it is not said which dataset the contract is tried on", hint="--dataset NAME")
    files = {name: file or written for name, written in named.items()}
    return {name: load_contract(written) for name, written in files.items() if written is not None}


def _reader(pipeline: Pipeline) -> JournalReader:
    from journal.opening import find_reader

    reader = find_reader(pipeline)
    if reader is None:
        raise ConfigError("there is nothing to try a contract on: nothing has run here yet")
    return reader


def _show_quarantine(name: str, found: dict[str, Any]) -> None:
    from cli.answers import amount, answer_line, answer_table

    answer_line(f"{name}: the contract {found['contract']['version']} on {amount(found['records'])} records in quarantine")
    for key, said in (("would_pass", "would pass"), ("still_fail", "would be held back"), ("dropped", "would be dropped")):
        answer_line(f"  {amount(found[key])} {said}")
    for key, said in (("other", "wait for something else"), ("unreadable", "cannot be read any more, or do not fit its columns")):
        if found[key]:
            answer_line(f"  {amount(found[key])} {said}")
    rows = [
        [
            one["group"],
            one["rule"],
            one["column"],
            amount(one["records"]),
            amount(one["would_pass"]),
            ", ".join(f"{rule['id']} {amount(rule['rows'])}" for rule in one["failing"]),
            " ".join(one["passing"][:2]),
        ]
        for one in found["groups"]
    ]
    if rows:
        answer_table(["group", "rule", "column", "records", "would pass", "still break", "such as"], rows, right=["records", "would pass"])
    _show_how(found, "records")


def show_journal(name: str, found: dict[str, Any]) -> None:
    """For people: what a contract would have done to changes that have passed."""
    from cli.answers import amount, answer_line, answer_table

    answer_line(f"{name}: the contract {found['contract']['version']} on the last {amount(found['judged'])} changes in the journal")
    for key, said in (("pass", "would pass"), ("held_back", "would be held back"), ("dropped", "would be dropped")):
        answer_line(f"  {amount(found[key])} {said}")
    if found["stopping"]:
        answer_line(f"  {amount(found['stopping'])} would stop the table")
    rows = [[one["id"], one["action"], amount(one["rows"]), _examples(one["examples"])] for one in found["rules"] if one["rows"]]
    if rows:
        answer_table(["rule", "action", "rows", "such as"], rows, right=["rows"])
    between = found["between"]
    if between["records"]:
        passing = amount(between["would_pass"])
        answer_line(f"  {amount(between['records'])} records of quarantine took part in their places, {passing} of which would pass")
    if between["unreadable"]:
        answer_line(
            f"  {amount(between['unreadable'])} records of quarantine could not take part: what would become of them nobody can tell"
        )
    _show_how(found, "changes")


def _examples(found: list[dict[str, Any]]) -> str:
    return "; ".join(", ".join(f"{name}={value}" for name, value in one["key"].items()) for one in found[:3])


def _show_how(found: dict[str, Any], what: str) -> None:
    """What is to be known of how rules were judged, and which were not."""
    from cli.answers import amount, answer_line

    for rule, count in found["not_known"].items():
        answer_line(f"  {rule}: unknown for {amount(count)} of the {what}: what was before is older than what the journal keeps")
    for rule, lookup in found["lookups"].items():
        answer_line(f"  {rule}: judged by what the lookup {lookup} holds now")
    for rule, why in found["why_not_judged"].items():
        answer_line(f"  {rule}: not judged here: {why}")
