"""`audit verify` and `audit list`: what was done with records, and whether anybody has changed the trail of it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.styles import LogFormat

if TYPE_CHECKING:
    from journal.audit_trail import Line


def verify(
    file: PipelineFile,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="N:HASH", help="What was noted elsewhere of the trail as it was.", show_default=False),
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Checks the audit trail: that no line was changed, moved, left out or cut off, and that each record is what the lines say.

    Exit code 1 where anything is wrong. Note the head that it prints somewhere else: with it nobody can cut the trail, or write it anew.

    \b
    Examples:
      sluice audit verify pipeline.yaml
      sluice audit verify pipeline.yaml --head 120:3f0a… --json
    """
    speak(verbose, log_format)
    from cli.answers import answer_json, answer_line, printable
    from journal.audit_check import Head, check
    from journal.opening import open_reader
    from journal.refused_standing import look
    from journal.state import State
    from pipeline.load import load_pipeline

    noted = None if head is None else Head.read(head)
    pipeline = load_pipeline(file)
    with open_reader(pipeline) as reader, closing(State.open(pipeline.state)) as state:
        kept, refused = state.trail_head(reader.id), look(pipeline.state, time.time())  # before the journal, which is never behind them
        with reader.view() as (db, _):
            found = check(db, kept, noted, refused)
    if json:
        problems = [{"what": one.what, "line": one.line, "record": one.record} for one in found.findings]
        told = {"sound": not problems, "lines": found.n, "records": found.records, "before_digests": found.before_digests}
        answer_json({**told, "head": found.hash, "anchor": f"{found.n}:{found.hash}", "problems": problems, "more_problems": found.more})
    else:
        for one in found.findings:
            where = f"line {one.line}: " if one.line is not None else f"{one.record}: " if one.record is not None else ""
            answer_line(printable(f"{where}{one.what}"))
        if found.more:
            answer_line(f"and {found.more} more")
        word = "NOT sound" if found.findings else "sound"
        former = f" ({found.before_digests} held before digests)" if found.before_digests else ""
        answer_line(f"the audit trail is {word}: {found.n} lines, {found.records} records{former}, head {found.n}:{found.hash}")
    raise typer.Exit(1 if found.findings else 0)


def list_(
    file: PipelineFile,
    record: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only the steps of this record.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many lines.")] = 100,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Lists what was done with records, and by whom; or with one of them.

    \b
    Examples:
      sluice audit list pipeline.yaml
      sluice audit list pipeline.yaml 4f1c2a9e-1042 --json
    """
    speak(verbose, log_format)
    from cli.answers import answer_json, answer_line, answer_table
    from journal import audit_trail
    from journal.handling import ordinal_of
    from journal.opening import open_reader
    from pipeline.errors import ConfigError
    from pipeline.load import load_pipeline

    pipeline = load_pipeline(file)
    ordinal = None if record is None else ordinal_of(record)
    if record is not None and ordinal is None:
        raise ConfigError(f"there is no record {record} in quarantine", hint=f"`sluice quarantine list {file}` lists them")
    with open_reader(pipeline) as reader, reader.view() as (db, _):
        if record is None or ordinal is None:
            lines = audit_trail.latest(db, limit)
        else:
            sink = record.split("-", 2)[2] if record.count("-") > 1 else None
            lines = audit_trail.of_record(db, ordinal, sink)[-limit:]
    if json:
        answer_json([told(line) for line in lines])
        return
    if not lines:
        answer_line("nothing was done yet")
        return
    columns = ["line", "at", "by", "user", "action", "dataset", "records", "what"]
    rows = [[line.n, told(line)["at"], line.by, line.system_user, line.action, line.dataset, line.records, _what(line)] for line in lines]
    answer_table(columns, rows, right=["line", "records"])


def told(line: Line) -> dict[str, Any]:
    """A line as JSON has it."""
    from cli.records import moment

    return {
        "n": line.n,
        "at": moment(line.at),
        "by": line.by,
        "system_user": line.system_user,
        "step": line.action,
        "dataset": line.dataset,
        "records": line.records,
        "detail": {name: value for name, value in line.detail.items() if name not in ("content", "over")},
        "previous": line.previous,
        "hash": line.hash,
    }


def _what(line: Line) -> str:
    parts = [f"{name} {value}" for name, value in line.detail.items() if name in ("group", "columns", "rules", "replay") and value]
    return ", ".join(parts)
