"""`audit`: looks at quality a second time."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.loading import loading
from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.styles import LogFormat

if TYPE_CHECKING:
    from pipeline.model import Pipeline

audit = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_PATIENCE = 30.0  # seconds for an audit of the service's to end


@audit.callback()
def _audit() -> None:
    """Looks at quality a second time: with Great Expectations, beside the gate's own rules.

    \b
    Example:
      sluice audit run pipeline.yaml
    """


@audit.command("run")
def run(
    file: PipelineFile,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="This dataset; default: each that has a contract.", show_default=False)
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            "--window", min=1, max=1_000_000, metavar="N", help="Rows of a window; default: as the contract says.", show_default=False
        ),
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Audits what has come since the last audit, or else the newest window once more. Exit code 1 where an incident is open then.

    It works whether or not the service runs, whose process `watch` does the same again and again.

    \b
    Examples:
      sluice audit run pipeline.yaml
      sluice audit run pipeline.yaml --dataset orders --window 50000 --json
    """
    speak(verbose, log_format)
    with loading():
        from cli.answers import answer_json
        from pipeline.load import load_pipeline

        pipeline = load_pipeline(file)
    answer = _audited(pipeline, dataset, window)
    if json:
        answer_json(answer)
    else:
        _show(answer)
    raise typer.Exit(1 if any(one["incidents"] for one in answer.values()) else 0)


def _audited(pipeline: Pipeline, dataset: str | None, window: int | None) -> dict[str, Any]:
    """The answer, by dataset. Raises ConfigError for a dataset without a contract."""
    import time
    from dataclasses import asdict

    from dataflows.audit_promises import breakers
    from dataflows.audit_tick import AUDITING
    from dataflows.auditing import Auditing
    from dataflows.build import contracts
    from dataflows.contracts_in_force import in_force
    from journal.audits import Audits
    from journal.locks import ProcessLock
    from journal.opening import open_reader, tell
    from journal.state import State
    from pipeline.errors import ConfigError
    from pipeline.names import nearest

    pipeline = in_force(pipeline)
    rules = contracts(in_force(pipeline))
    if dataset is not None and dataset not in rules:
        raise ConfigError(f"no dataset {dataset!r} with a contract is in {pipeline.name}", hint=nearest(dataset, rules))
    answer: dict[str, Any] = {}
    now = time.time()
    with (
        ProcessLock(pipeline.state, AUDITING, f"an audit of {pipeline.name}", _PATIENCE),
        closing(Audits.open(pipeline.state)) as audits,
        closing(State.open(pipeline.state)) as state,
        open_reader(pipeline) as reader,
    ):
        breakers(state, audits, list(rules), now)
        auditing = Auditing(pipeline, audits)
        for name in rules if dataset is None else [dataset]:
            done = auditing.dataset(reader, name, rules[name], now, window=window, again=True)
            lines = [one for one in audits.windows(name, now) if one.at == now]
            newest = max((one.last for one in lines), default=0)
            answer[name] = {
                "windows": done.windows,
                "changes": done.changes,
                "unaudited": done.unaudited,
                "rules": [
                    {"id": one.rule, "verdict": one.verdict, "engine": one.engine, "rows": one.rows, "failed": one.failed}
                    | ({} if one.observed is None else {"observed": one.observed})
                    for one in lines
                    if one.rule and one.last == newest
                ],
                "incidents": [asdict(one) for one in audits.incidents(name)],
            }
    tell(pipeline)
    return answer


def _observed(found: Any) -> Any:
    """What was observed, for people."""
    if not isinstance(found, dict) or "not_judged" not in found:
        return found
    rows, why = found["not_judged"], found.get("why")
    return f"not judged: {rows}" if why is None else f"{rows} not judged: {why}"


def _show(answer: dict[str, Any]) -> None:
    from cli.answers import amount, answer_line, answer_lines, answer_table

    for name, one in answer.items():
        answer_line(f"{name}: {amount(one['changes'])} changes in {amount(one['windows'])} window(s)")
        rows = [
            [rule["id"], rule["verdict"], rule["engine"], amount(rule["rows"]), amount(rule["failed"]), _observed(rule.get("observed", ""))]
            for rule in one["rules"]
        ]
        if rows:
            answer_table(["rule", "verdict", "engine", "rows", "failed", "observed"], rows, right=["rows", "failed"])
        for incident in one["incidents"]:
            answer_lines(f"{incident['kind']}: {incident['detail']['message']}")
        answer_line()
