"""`quarantine fix`, `approve`, `discard` and `replay`: what owners do with records."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, Log, PipelineFile, Verbose, as_arguments, speak
from cli.styles import LogFormat
from pipeline.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pipeline.model import Pipeline

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Records, by their ids.", show_default=False)]
GroupOf = Annotated[str | None, typer.Option("--group", help="All records with this cause.", show_default=False)]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who does it.", show_default=False)]
Timeout = Annotated[float, typer.Option("--timeout", min=1.0, metavar="SECONDS", help="How long an answer is waited for.")]

_SHOWN = 3


def fix(
    file: PipelineFile,
    by: By,
    ids: Ids = None,
    group: GroupOf = None,
    values: Annotated[list[str] | None, typer.Option("--set", metavar="COLUMN=VALUE", help="Sets a column.", show_default=False)] = None,
    nulls: Annotated[list[str] | None, typer.Option("--null", metavar="COLUMN", help="Sets a column to null.", show_default=False)] = None,
    expressions: Annotated[
        list[str] | None,
        typer.Option("--expr", metavar="COLUMN=SQL", help="Sets a column to an expression over the record's row.", show_default=False),
    ] = None,
    timeout: Timeout = 300.0,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Sets columns of records: of all that are named, or of none. What was received stays as it was.

    Somebody else approves it then, and it can be replayed.

    \b
    Examples:
      sluice quarantine fix pipeline.yaml 4f1c2a9e-1042 --set amount=12.50 --by ann@example.com
      sluice quarantine fix pipeline.yaml --group 1c0b77aa --expr "amount=abs(amount)" --by ann@example.com
    """
    speak(verbose, log_format)
    found = pairs("--set", values)
    nothing = dict.fromkeys(nulls or ())
    computed = pairs("--expr", expressions)
    if not (found or nothing or computed):
        raise ConfigError("nothing is said to be set", hint="--set COLUMN=VALUE, --null COLUMN or --expr COLUMN=SQL")
    twice = [name for name in found if name in nothing or name in computed] + [name for name in nothing if name in computed]
    if twice:
        raise ConfigError(f"`{twice[0]}` is set twice")
    content = {"action": "fix", **_which(ids, group), "by": by, "set": {**found, **nothing}, "expr": computed}
    finish(file, content, timeout, json, "fixed", f"they wait for somebody to approve them: `sluice quarantine approve {file} … --by NAME`")


def approve(
    file: PipelineFile,
    by: By,
    ids: Ids = None,
    group: GroupOf = None,
    timeout: Timeout = 300.0,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Approves records that were fixed by somebody else, or whose rules have changed, so that they can be replayed.

    \b
    Example:
      sluice quarantine approve pipeline.yaml --group 1c0b77aa --by bo@example.com
    """
    speak(verbose, log_format)
    content = {"action": "approve", **_which(ids, group), "by": by}
    finish(file, content, timeout, json, "approved", f"`sluice quarantine replay {file} --approved` sends them on")


def discard(
    file: PipelineFile,
    by: By,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Why they are not wanted.", show_default=False)],
    ids: Ids = None,
    group: GroupOf = None,
    timeout: Timeout = 300.0,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Gives records up. They stay in quarantine, and count as quarantined, but wait for nobody any more.

    \b
    Example:
      sluice quarantine discard pipeline.yaml 4f1c2a9e-1042 --by ann@example.com --why "a test order"
    """
    speak(verbose, log_format)
    finish(file, {"action": "discard", **_which(ids, group), "by": by, "why": why}, timeout, json, "discarded", None)


def replay(
    file: PipelineFile,
    ids: Ids = None,
    group: GroupOf = None,
    approved: Annotated[bool, typer.Option("--approved", help="All records that are approved.")] = False,
    dataset: Annotated[str | None, typer.Option("--dataset", help="With --approved: of this dataset.", show_default=False)] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who does it; else the system's user.", show_default=False)] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until every sink holds them.")] = False,
    timeout: Timeout = 300.0,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Sends approved records through the whole contract again, and on to the sinks with the place in the stream that they had.

    \b
    Examples:
      sluice quarantine replay pipeline.yaml --approved --wait
      sluice quarantine replay pipeline.yaml 4f1c2a9e-1042
    """
    speak(verbose, log_format)
    if dataset is not None and not approved:
        raise ConfigError("--dataset goes with --approved")
    if approved and (ids or group):
        raise ConfigError("--approved means all that are approved: name no records beside it")
    content = {"action": "replay", **({"dataset": dataset} if approved else _which(ids, group)), "by": by}
    pipeline, answer = _asked(file, content, timeout)
    from cli.answers import answer_json
    from dataflows.delivered import wait_until_delivered
    from journal import handling
    from journal.opening import open_reader

    records: list[dict[str, Any]] = []
    with open_reader(pipeline) as reader:
        seq = reader.last_seq()
        if answer["number"] is not None:
            with reader.view() as (db, _):
                records = [{"id": name, "status": status} for name, _, status in handling.replayed(db, answer["number"])]
    undelivered: list[str] = []
    if wait:  # also for what was replayed by a command that died before its own wait was over
        undelivered = wait_until_delivered(pipeline, seq, timeout, ["run", str(file), *as_arguments(verbose, log_format)])
    outcome = answer.get("outcome", {})
    told = {
        "replayed": answer["done"],
        "resolved": outcome.get("resolved", 0),
        "failed_again": outcome.get("failed-again", 0),
        "superseded": outcome.get("superseded", 0),
        "waiting": outcome.get("replaying", 0),
        "behind": outcome.get("approved", 0),
        "returning": answer.get("returning", 0),
        "not_approved": answer["could_not"],
        "records": [*records, *answer["records"]],
        "audit_head": answer["head"],
    }
    if wait:
        told["undelivered"] = undelivered
    if json:
        answer_json(told)
    else:
        _say_replayed(told, file)
    raise typer.Exit(max(answer["code"], 1 if undelivered else 0))


def import_(
    file: PipelineFile,
    mended: Annotated[Path, typer.Option("--file", metavar="FILE", help="An export: *.csv, *.jsonl or *.parquet.", show_default=False)],
    by: By,
    timeout: Timeout = 300.0,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Takes back a file that `export` wrote and somebody has mended: what is another value now in the columns of a row is a fix.

    Of all records of the file, or of none. Rows that are as they were are left alone.

    \b
    Example:
      sluice quarantine import pipeline.yaml --file bad-orders.csv --by ann@example.com
    """
    speak(verbose, log_format)
    from cli.answers import answer_json, answer_line
    from cli.importing import read_mended
    from cli.records import Masks, Quarantine
    from pipeline.load import load_pipeline

    pipeline = load_pipeline(file)
    with closing(Quarantine(pipeline)) as found:
        told = read_mended(mended, found, Masks(pipeline))
    answer: dict[str, Any] = {"done": 0, "head": None}
    if told.patches:
        content = {"action": "import", "ids": list(told.patches), "by": by, "patches": told.patches}
        try:
            _, answer = _asked(file, content, timeout)
        except ConfigError as error:
            raise _with_lines(error, mended, told.lines) from error
    if json:
        answer_json({"fixed": answer["done"], "unchanged": told.unchanged, "audit_head": answer["head"]})
    else:
        answer_line(f"{answer['done']} record{'' if answer['done'] == 1 else 's'} fixed, {told.unchanged} as they were")


def _with_lines(error: ConfigError, file: Path, lines: Mapping[str, int]) -> ConfigError:
    """What is said of records, at their lines in the file."""
    problems = []
    for said in error.message.splitlines():
        name, colon, _ = said.partition(": ")
        problems.append(Problem(said, file, lines[name]) if colon and name in lines else Problem(said, file))
    return ConfigError.of(problems)


def _say_replayed(told: dict[str, Any], file: Path) -> None:
    from cli.answers import answer_line

    number = told["replayed"]
    parts = [f"{number} record{'' if number == 1 else 's'} replayed: {told['resolved']} resolved"]
    parts += [f"{told[name]} {words}" for name, words in (("failed_again", "failed again"), ("superseded", "superseded")) if told[name]]
    answer_line(", ".join(parts))
    if told["waiting"]:
        answer_line(f"{told['waiting']} wait until the copy of their table is made")
    if told["returning"]:
        answer_line(f"{told['returning']} are on their way back to the sinks that refused them")
    if told["behind"]:
        answer_line(f"{told['behind']} wait behind an earlier record of their key, and go on by themselves once that has come to its end")
    if told["failed_again"]:
        answer_line(f"`sluice quarantine list {file} --status failed-again` says why")
    _say_refused(told["not_approved"], [one for one in told["records"] if "why" in one])
    for sink in told.get("undelivered", ()):
        answer_line(f"the sink {sink} does not hold them yet")


def finish(file: Path, content: dict[str, Any], timeout: float, json: bool, word: str, then: str | None) -> None:
    """Asks for something, says what came of it, and ends the command. Raises what was answered in place of an answer."""
    from cli.answers import answer_json, answer_line

    _, answer = _asked(file, content, timeout)
    if json:
        told = {word: answer["done"], "could_not": answer["could_not"], "records": answer["records"], "audit_head": answer["head"]}
        answer_json(told)
    else:
        answer_line(f"{answer['done']} record{'' if answer['done'] == 1 else 's'} {word}")
        _say_refused(answer["could_not"], answer["records"])
        if then is not None and answer["done"]:
            answer_line(then)
    raise typer.Exit(answer["code"])


def _say_refused(number: int, records: list[dict[str, Any]]) -> None:
    from cli.answers import answer_line, printable

    alike: dict[str, list[str]] = {}
    for one in records:
        alike.setdefault(one["why"], []).append(one["id"])
    for why, ids in alike.items():
        named = ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
        answer_line(printable(f"{named}: {why}"))
    if number > len(records):
        answer_line(f"and {number - len(records)} more")


def _asked(file: Path, content: dict[str, Any], timeout: float) -> tuple[Pipeline, dict[str, Any]]:
    """The answer. Raises what was answered in place of one."""
    from dataflows.asking import ask
    from pipeline.errors import EXIT_USAGE, TerminalError
    from pipeline.load import load_pipeline

    pipeline = load_pipeline(file)
    answer = ask(pipeline, content, timeout)
    if (error := answer.get("error")) is not None:
        kind = ConfigError if answer["code"] == EXIT_USAGE else TerminalError
        raise kind(error["message"], hint=error["hint"])
    return pipeline, answer


def _which(ids: list[str] | None, group: str | None) -> dict[str, Any]:
    if bool(ids) == bool(group):
        raise ConfigError("name records by their ids, or all of a cause with --group", hint="`sluice quarantine list` has both")
    return {"group": group} if group else {"ids": list(dict.fromkeys(ids or ()))}


def pairs(option: str, written: list[str] | None) -> dict[str, str]:
    """COLUMN=VALUE, as they are written behind an option. Raises ConfigError."""
    found: dict[str, str] = {}
    for one in written or ():
        name, sign, value = one.partition("=")
        if not sign or not name.strip():
            raise ConfigError(f"{option} {one!r} names no column", hint=f"{option} COLUMN=…")
        if name.strip() in found:
            raise ConfigError(f"`{name.strip()}` is set twice")
        found[name.strip()] = value
    return found
