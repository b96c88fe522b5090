"""`contract`: contracts on their own, without any server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.styles import LogFormat
from pipeline.errors import EXIT_NO, ConfigError

if TYPE_CHECKING:
    from quality.contract_diff import ContractDiff

contracts = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_ROWS_SHOWN = 10


@contracts.callback()
def _contract() -> None:
    """Judges data by a contract, and compares and approves versions of contracts, without any server.

    \b
    Examples:
      sluice contract test contracts/orders.odcs.yaml --data orders.csv
      sluice contract diff old.odcs.yaml contracts/orders.odcs.yaml
    """


@contracts.command("test")
def judge(
    contract: Annotated[Path, typer.Argument(metavar="CONTRACT", help="The contract.", show_default=False)],
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="A CSV, JSON-lines, Parquet or Arrow file.", show_default=False)],
    lookup: Annotated[
        list[str] | None,
        typer.Option("--lookup", metavar="NAME=FILE", help="Rows of a lookup that a rule names; NAME=FILE:COLUMN,… says its key."),
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Judges a file by a contract. Exit code 1 when a row or a rule fails, 2 for a contract that isn't sound.

    \b
    Examples:
      sluice contract test contracts/orders.odcs.yaml --data orders.csv
      sluice contract test contracts/orders.odcs.yaml --data orders.parquet --json
      sluice contract test contracts/orders.odcs.yaml --data orders.csv --lookup customers=customers.csv:id
    """
    speak(verbose, log_format)
    import structlog

    from cli.answers import answer_json
    from pipeline.errors import ConfigError
    from quality.contract_test import run_contract_test
    from quality.lookup_file import LookupFile

    given = [LookupFile.of(text) for text in lookup or ()]
    twice = next((one.name for place, one in enumerate(given) if one.name in [other.name for other in given[:place]]), None)
    if twice is not None:
        raise ConfigError(f"--lookup gives {twice} twice")
    found = run_contract_test(contract, data, {one.name: one for one in given})
    for problem in found.problems:
        structlog.get_logger("sluice.contract").warning(problem)
    if json:
        answer_json(found.answer())
    else:
        _show(found.answer(), success=found.success)
    raise typer.Exit(found.exit_code)


def _show(answer: dict[str, Any], *, success: bool) -> None:
    from cli.answers import amount, answer_line, answer_table

    rows = []
    for rule in answer["rules"]:
        if "rows" in rule:
            where = ", ".join(map(str, rule["rows"][:_ROWS_SHOWN])) + (" …" if len(rule["rows"]) > _ROWS_SHOWN else "")
            rows.append([rule["id"], rule["engine"], amount(rule["evaluated"]), amount(rule["failed"]), where])
        else:
            rows.append([rule["id"], rule["engine"], "", "" if rule["success"] else "fails", f"observed {rule['observed']}"])
    answer_table(["rule", "engine", "evaluated", "failed", "rows"], rows, right=["evaluated", "failed"])
    answer_line(f"{amount(answer['passed'])} of {amount(answer['rows'])} rows pass; the contract is {'kept' if success else 'broken'}")


@contracts.command("diff")
def diff(
    before: Annotated[Path, typer.Argument(metavar="OLD", help="The contract as it was.", show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="NEW", help="The contract as it is to be.", show_default=False)],
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Says every change between two versions of a contract, and whether others can go on as they are.

    Exit code 0 when the versions are compatible, 1 when a change is breaking, 2 for a contract that isn't sound.

    \b
    Examples:
      sluice contract diff old.odcs.yaml contracts/orders.odcs.yaml
      sluice contract diff old.odcs.yaml contracts/orders.odcs.yaml --json
    """
    speak(verbose, log_format)
    from cli.answers import answer_json
    from quality.contract_diff import compare
    from quality.contract_reading import load_contract

    found = compare(load_contract(before), load_contract(after))
    if json:
        answer_json(found.answer())
    else:
        show_diff(found)
    raise typer.Exit(EXIT_NO if found.breaking else 0)


def show_diff(found: ContractDiff) -> None:
    """The changes as a table, and the verdict."""
    from cli.answers import answer_line, answer_table

    if found.changes:
        rows = [[one.effect, one.kind, one.subject, one.says, one.before, one.after, one.line] for one in found.changes]
        answer_table(["effect", "what", "of", "says", "before", "after", "line"], rows, right=["line"])
    ends = f"{found.before.version} to {found.after.version}"
    if not found.changes:
        answer_line(f"{ends}: nothing has changed")
    elif found.breaking:
        answer_line(f"{ends}: breaking; {len(found.breaking)} of {len(found.changes)} changes have to be approved")
    else:
        answer_line(f"{ends}: compatible")
    if found.version_problem:
        answer_line(f"note: {found.version_problem}")


@contracts.command("approve")
def approve(
    file: PipelineFile,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset whose contract has changed.", show_default=False)],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who approves it.", show_default=False)],
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Puts the contract in a dataset's file in force, though it breaks what others rely on. Works whether or not the service runs.

    \b
    Example:
      sluice contract approve pipeline.yaml orders --by bo@example.com
    """
    speak(verbose, log_format)
    from cli.answers import answer_json, answer_line
    from dataflows.approving import APPROVE_CONTRACT
    from dataflows.asking import ask
    from journal.opening import has_journal
    from pipeline.load import load_pipeline
    from pipeline.names import nearest
    from quality.contract_reading import load_contract

    pipeline = load_pipeline(file)
    named = {name: one.contract for name, one in pipeline.datasets.items() if one.contract is not None}
    if dataset not in named:
        raise ConfigError(f"no dataset {dataset!r} with a contract is in {pipeline.name}", hint=nearest(dataset, named))
    if not has_journal(pipeline):
        raise ConfigError("no contract is in force yet", hint="the one in the file will be, from the first start on")
    written = load_contract(named[dataset])
    content = {"action": APPROVE_CONTRACT, "dataset": dataset, "by": by, "file": str(named[dataset]), "text": written.text}
    found = ask(pipeline, content)
    if "error" in found:
        raise ConfigError(found["error"]["message"], hint=found["error"]["hint"])
    if json:
        answer_json({key: found[key] for key in ("dataset", "former", "version", "changed")})
    elif found["changed"]:
        answer_line(f"{dataset}: the contract {found['version']} is in force" + (f", after {found['former']}" if found["former"] else ""))
    else:
        answer_line(f"{dataset}: the contract {found['version']} is in force already")
