"""`check`: whether a pipeline file or a contract is sound, without any server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.loading import loading
from cli.options import AsJson, Log, Verbose, speak
from cli.styles import LogFormat
from pipeline.errors import EXIT_NO, ConfigError, Problem

if TYPE_CHECKING:
    from cli.offline import Checked
    from quality.contract import Contract


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A pipeline file, or a contract.", show_default=False)],
    against: Annotated[
        str | None, typer.Option("--against", metavar="journal", help="Tries contracts on what the journal has.", show_default=False)
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="With --against: only this dataset.", show_default=False)] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="With --against: at most so many changes of a dataset, the newest.")] = 100_000,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="Measures what each rule costs here.")] = True,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Says everything that is wrong with a pipeline file or a contract, offline, with lines and hints.

    A pipeline file is checked with the contracts that it names; each rule is listed with what evaluates it and where. Exit code 1 for
    problems, 2 for a file that can't be read. With `--against journal` it is said, too, what the contracts would have done to
    the changes that have passed and that the journal still has.

    \b
    Examples:
      sluice check pipeline.yaml
      sluice check pipeline.yaml --against journal --dataset orders --last 10000
      sluice check contracts/orders.odcs.yaml --json
    """
    speak(verbose, log_format)
    with loading():
        from cli.answers import answer_json
        from cli.offline import check_file

    try:
        found = check_file(file)
    except ConfigError as error:
        lines = [problem for problem in error.problems if problem.line]
        if not lines and not json:
            raise
        problems = [_here(problem, file) for problem in error.problems]
        if json:
            answer_json({"file": str(file), "kind": None, "ok": False, "problems": [_problem(one) for one in problems], "notes": []})
        else:
            _show_problems(problems)
        raise typer.Exit(EXIT_NO if lines else error.exit_code) from error
    found.problems = [_here(problem, file) for problem in found.problems]
    if measure:
        found.measure()
    tried = {} if against is None else _tried(found, against, dataset, last)
    if json:
        answer_json(_answer(file, found) | ({} if against is None else {"against": {against: tried}}))
    else:
        _show(file, found)
        for name, one in tried.items():
            _show_tried(name, one)
    raise typer.Exit(EXIT_NO if found.problems else 0)


def _tried(found: Checked, against: str, dataset: str | None, last: int) -> dict[str, Any]:
    """What the contracts of a sound pipeline would have done to what is there."""
    if against != "journal":
        raise ConfigError(f"contracts cannot be tried on {against!r}", hint="--against journal")
    if found.problems:
        return {}
    if found.pipeline is None:
        raise ConfigError("only the contracts of a pipeline can be tried on its journal", hint="name the pipeline file")
    from cli.backtest import journal_answer

    return journal_answer(found.pipeline, dataset, last)


def _show_tried(name: str, tried: dict[str, Any]) -> None:
    from cli.answers import answer_line
    from cli.backtest import show_journal

    answer_line()
    show_journal(name, tried)


def _here(problem: Problem, checked: Path) -> Problem:
    """The problem with its file named as the checked one was: a contract beside `shop/pipeline.yaml` is `shop/…`."""
    folder = checked.resolve().parent
    if problem.file is None or problem.file == checked or not problem.file.is_relative_to(folder):
        return problem
    return replace(problem, file=checked.parent / problem.file.relative_to(folder))


def _problem(problem: Problem) -> dict[str, Any]:
    from cli.ending import problem_json

    return problem_json(problem)


def _answer(file: Path, found: Checked) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "file": str(file),
        "kind": found.kind,
        "ok": not found.problems,
        "problems": [_problem(problem) for problem in found.problems],
        "notes": found.notes,
        "contracts": {name: _contract(contract, found.costs.get(name, {})) for name, contract in found.contracts.items()},
    }
    if found.pipeline is not None:
        pipeline = found.pipeline
        answer["pipeline"] = pipeline.name
        answer["sources"] = {name: {"type": block.type} for name, block in pipeline.sources.items()}
        answer["sinks"] = {
            name: {"type": block.type, "datasets": None if block.routes is None else list(block.routes)}
            for name, block in pipeline.sinks.items()
        }
    return answer


def _contract(contract: Contract, costs: Mapping[str, float | None]) -> dict[str, Any]:
    from cli.offline import rule_json

    return {
        "file": str(contract.file),
        "id": contract.id,
        "version": contract.version,
        "dataset": contract.dataset,
        "owner": contract.owner,
        "rules": [rule_json(rule, contract, costs) for rule in contract.rules],
    }


def _show_problems(problems: list[Problem]) -> None:
    from cli.answers import answer_line, answer_lines

    for problem in problems:
        answer_lines(str(problem))
    answer_line(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}")


def _show(file: Path, found: Checked) -> None:
    from cli.answers import answer_line

    if found.problems:
        _show_problems(found.problems)
        return
    answer_line(f"{file}: a sound {found.kind}")
    if found.pipeline is not None:
        pipeline = found.pipeline
        for name, source in pipeline.sources.items():
            answer_line(f"  source {name} ({source.type}): {source.stream or ', '.join(getattr(source.config, 'tables', ()))}")
        for name, sink in pipeline.sinks.items():
            answer_line(f"  sink {name} ({sink.type}): {'every dataset' if sink.routes is None else ', '.join(sink.routes)}")
    for name, contract in found.contracts.items():
        _show_rules(name, contract, found.costs.get(name, {}))
    for note in found.notes:
        answer_line(f"note: {note}")


def _show_rules(name: str, contract: Contract, costs: Mapping[str, float | None]) -> None:
    from cli.answers import answer_line, answer_table
    from cli.offline import rule_json
    from quality.rules import OPERATIONS

    answer_line()
    owner = f", owner {contract.owner}" if contract.owner else ""
    answer_line(f"{name}: contract {contract.id} {contract.version}{owner}; {len(contract.rules)} rules")
    rules = [rule_json(rule, contract, costs) for rule in contract.rules]
    answer_table(
        ["rule", "says", "columns", "scope", "engine", "ns/row", "action", "on", "line"],
        [
            [
                rule["id"],
                rule["says"],
                ", ".join(rule["columns"]),
                rule["scope"],
                rule["engine"],
                rule["ns_per_row"],
                rule["action"],
                ", ".join(rule["on"]) if len(rule["on"]) < len(OPERATIONS) else "all",
                rule["line"],
            ]
            for rule in rules
        ],
        right=["ns/row", "line"],
    )
