"""`quarantine`: what was held back, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.styles import LogFormat
from pipeline.errors import ConfigError
from pipeline.names import nearest

if TYPE_CHECKING:
    from cli.records import Masks, Quarantine
    from journal.quarantine import Wanted

quarantine = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Status = Annotated[str | None, typer.Option("--status", help="Only records in this state, such as open.", show_default=False)]
Dataset = Annotated[str | None, typer.Option("--dataset", help="Only records of this dataset.", show_default=False)]
Group = Annotated[str | None, typer.Option("--group", help="Only records with this cause.", show_default=False)]
Unmasked = Annotated[bool, typer.Option("--unmasked", help="Shows what the contract calls confidential or restricted, too.")]

_LONGEST = 2000  # characters of a value for people
_SHOWN = 100


@quarantine.callback()
def _quarantine() -> None:
    """Shows what was held back and why, and has it mended and sent on. Works whether or not the service runs.

    \b
    Examples:
      sluice quarantine list pipeline.yaml --status open
      sluice quarantine show pipeline.yaml 4f1c2a9e-1042
      sluice quarantine export pipeline.yaml --out bad-orders.csv
    """


@quarantine.command("list")
def list_(
    file: PipelineFile,
    status: Status = None,
    dataset: Dataset = None,
    group: Group = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many; a table has 100 unless told.", show_default=False)
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Lists records in quarantine, in the order in which they came.

    \b
    Examples:
      sluice quarantine list pipeline.yaml --dataset orders --status open
      sluice quarantine list pipeline.yaml --group 1c0b77aa --json
    """
    speak(verbose, log_format)
    from cli.answers import answer_json, answer_line
    from cli.records import listed

    opened, masks = _opened(file, unmasked=False)
    with closing(opened) as found:
        records = (listed(record, masks, found) for record in found.records(_wanted(status, dataset, group)))
        if json:
            answer_json(list(islice(records, limit)))
            return
        most = limit or _SHOWN
        rows = list(islice(records, most + 1))
    if not rows:
        answer_line("nothing is in quarantine" if not (status or dataset or group) else "no record in quarantine is like that")
        return
    _table(rows[:most])
    if len(rows) > most:
        answer_line(f"and more: --limit shows them, or `sluice quarantine list {file} --json` all of them")


@quarantine.command("show")
def show(
    file: PipelineFile,
    record: Annotated[str, typer.Argument(metavar="ID", help="The record's id.", show_default=False)],
    unmasked: Unmasked = False,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Shows a record whole: the row as it was received, every reason, and what has happened to it.

    \b
    Example:
      sluice quarantine show pipeline.yaml 4f1c2a9e-1042 --json
    """
    speak(verbose, log_format)
    from cli.answers import answer_json
    from cli.records import shown

    opened, masks = _opened(file, unmasked)
    with closing(opened) as found:
        one = found.record(record)
        if one is None:
            raise ConfigError(f"there is no record {record} in quarantine", hint=f"`sluice quarantine list {file}` lists them")
        told = shown(one, masks, found)
    if json:
        answer_json(told)
    else:
        _record(told)


@quarantine.command("export")
def export(
    file: PipelineFile,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to: *.parquet, *.csv or *.jsonl.", show_default=False)],
    status: Status = None,
    dataset: Dataset = None,
    group: Group = None,
    unmasked: Unmasked = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Writes records to a file: Parquet, CSV or JSON lines, by its ending.

    Behind what is known of a record stand the columns of its row, which somebody may mend there: `quarantine import` takes them back.

    \b
    Example:
      sluice quarantine export pipeline.yaml --dataset orders --out bad-orders.parquet
    """
    speak(verbose, log_format)
    from cli.answers import answer_line
    from cli.exporting import export as write

    opened, masks = _opened(file, unmasked)
    with closing(opened) as found:
        number = write(_whole(found, masks, _wanted(status, dataset, group)), out, found.columns(dataset))
    answer_line(f"{number} records in {out}")


def _opened(file: Path, unmasked: bool) -> tuple[Quarantine, Masks]:
    from cli.records import Masks, Quarantine
    from pipeline.load import load_pipeline

    pipeline = load_pipeline(file)
    return Quarantine(pipeline), Masks(pipeline, off=unmasked)


def _wanted(status: str | None, dataset: str | None, group: str | None) -> Wanted:
    from journal.quarantine import STATUSES, Wanted

    if status is not None and status not in STATUSES:
        raise ConfigError(f"no record is ever {status!r}", hint=nearest(status, STATUSES) or f"one of {', '.join(STATUSES)}")
    return Wanted(dataset=dataset, status=status, group=group)


def _whole(found: Quarantine, masks: Masks, wanted: Wanted) -> Iterator[dict[str, Any]]:
    from cli.records import row_of, shown

    for record in found.records(wanted):
        yield {**shown(record, masks, found, story=False), "row": masks(record, row_of(record))}


def _table(rows: list[dict[str, Any]]) -> None:
    from cli.answers import answer_table

    shown = []
    for row in rows:
        first, *others = row["reasons"]
        value = "null" if first["value"] is None else first["value"][:60]
        key = ", ".join(f"{name}={value}" for name, value in row["key"].items())
        rule = first["rule"] + (f" +{len(others)}" if others else "")
        shown.append([row["id"], row["dataset"], row["operation"], key, rule, value, row["status"], row["group"], row["quarantined_at"]])
    answer_table(["id", "dataset", "operation", "key", "rule", "value", "status", "group", "since"], shown)


def _record(told: dict[str, Any]) -> None:
    from cli.answers import answer_line, answer_table, printable

    for name in (
        "id",
        "dataset",
        "source",
        "table",
        "sink",
        "operation",
        "position",
        "trace_id",
        "committed_at",
        "quarantined_at",
        "status",
        "group",
        "owner",
        "patched_by",
        "approved_by",
        "resolved_at",
        "resolution",
    ):
        if told[name] is not None:
            answer_line(f"{name.replace('_', ' '):15} {printable(str(told[name]))}")
    if told["contract"]:
        answer_line(f"{'contract':15} {printable(told['contract'])} {told['contract_version'] or ''}")
    answer_line()
    reasons = [[one["rule"], one["column"], one["message"], _cut(one["value"])] for one in told["reasons"]]
    answer_table(["rule", "column", "what must hold", "value"], reasons)
    answer_line()
    before = told["before"] or {}
    patch = told["patch"] or {}
    columns = [*told["raw"], *(name for name in patch if name not in told["raw"])]
    rows = [[name, *(_cut(row[name]) if name in row else "" for row in (told["raw"], before, patch))] for name in columns]
    answer_table(["column", "received", "before", "fixed"], rows)
    answer_line()
    steps = [[one["at"], one["step"], one["by"], ", ".join(one.get("columns", one.get("rules", [])))] for one in told["audit"]]
    answer_table(["at", "step", "by", "what"], steps)


def _cut(value: object) -> str:
    """A value for people: of a message of megabytes the beginning; `--json` has all of it."""
    text = "null" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters: --json has them all)"
