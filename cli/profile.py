"""`profile`: what data looks like, and the draft of a contract for it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Never

import typer

from cli.options import AsJson, Log, Verbose, speak
from cli.styles import LogFormat
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from quality.profile.profiling import Profiled


def profile(
    file: Annotated[Path | None, typer.Argument(metavar="PIPELINE_FILE", help="The pipeline file.", show_default=False)] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="Of a pipeline: which dataset.", show_default=False)
    ] = None,
    dsn: Annotated[
        str | None,
        typer.Option(
            "--dsn",
            metavar="DSN",
            help="A Postgres server: a libpq string or URL, '${NAME}' for one from the environment, '' for PG* variables.",
            show_default=False,
        ),
    ] = None,
    table: Annotated[str | None, typer.Option("--table", metavar="TABLE", help="There: schema.table.", show_default=False)] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="A CSV, JSON-lines, Parquet or Arrow file.", show_default=False)
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", min=1, help="Looks at the first N rows alone.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write the draft; stdout unless said.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Where to write the profile as a page; beside --out unless said.", show_default=False),
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Looks at a dataset, a table or a file, and drafts a contract whose rules all hold on what it saw. Changes nothing there.

    Values of columns that look sensitive (e-mail addresses, phone numbers, accounts, cards) are masked in everything that is written.

    \b
    Examples:
      sluice profile pipeline.yaml --dataset orders --out contracts/orders.odcs.yaml
      sluice profile --dsn '${PORTAL_DSN}' --table public.orders --out orders.odcs.yaml
      sluice profile --data orders.csv > orders.odcs.yaml
      sluice profile --data orders.parquet --json
    """
    speak(verbose, log_format)
    import structlog

    from cli.answers import answer_json
    from pipeline.redact import redact
    from quality.profile.page import as_json

    written = re.sub(r"\w*[=:]?\$\{\w+\}", "", dsn or "")
    if redact(written) != written:
        said = "the password stands in the process list: give the dsn as '${NAME}', or use PGPASSWORD"
        structlog.get_logger("sluice.profile").warning(said)
    with _ending_in_order():
        found = _profiled(file, dataset, dsn, table, data, sample)
    page = html or (None if out is None else out.with_name(out.name.removesuffix(".yaml").removesuffix(".odcs") + ".profile.html"))
    if out is not None:
        _write(out, found.yaml)
    if page is not None:
        from quality.profile.page import as_html

        _write(page, as_html(found))
    if json:
        answer_json(as_json(found))
    elif out is None:
        typer.echo(found.yaml, nl=False)
    else:
        _show(found, out, page)


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM ends the command as SIGINT does: the rows that lie in a temporary folder go with it."""

    def end(number: int, _: object) -> Never:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _profiled(
    file: Path | None, dataset: str | None, dsn: str | None, table: str | None, data: Path | None, sample: int | None
) -> Profiled:
    """What was asked for, in one of the three ways to ask."""
    ways = [file is not None, dsn is not None or table is not None, data is not None]
    if sum(ways) != 1:
        said = "nothing to look at" if not any(ways) else "more than one thing to look at"
        raise ConfigError(said, hint="name one: a pipeline file, --dsn with --table, or --data")
    if dataset is not None and file is None:
        raise ConfigError("--dataset is of a pipeline", hint="sluice profile pipeline.yaml --dataset NAME")
    if data is not None:
        from quality.profile.profiling import profile_file

        return profile_file(data, sample)
    if file is not None:
        from dataflows.profiling import profile_dataset
        from pipeline.load import load_pipeline

        return profile_dataset(load_pipeline(file), dataset, sample)
    if dsn is None or table is None:
        missing = "--dsn" if dsn is None else "--table"
        raise ConfigError(f"{missing} is missing", hint="sluice profile --dsn '${PORTAL_DSN}' --table public.orders")
    from dataflows.profiling import profile_table

    return profile_table(dsn, table, sample)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def _show(found: Profiled, out: Path, page: Path | None) -> None:
    from cli.answers import amount, answer_line, answer_table, printable

    profile = found.profile
    rows = [
        [column.name, column.logical, column.given, amount(column.nulls), amount(column.distinct), _told(column.least), _told(column.most),
         column.sensitive and "confidential"]
        for column in profile.columns
    ]  # fmt: skip
    answer_table(["column", "type", "given as", "nulls", "different", "least", "most", ""], rows, right=["nulls", "different"])
    for finding in profile.all_findings:
        where = f"{finding.column}: " if finding.column is not None else ""
        count = f" ({amount(finding.rows)} rows)" if finding.rows is not None else ""
        answer_line(f"  {printable(where + finding.message)}{count}")
    keys = ", ".join(" + ".join(key.columns) for key in profile.keys) or "none"
    answer_line(f"{profile.dataset}: {amount(profile.rows)} rows, {len(profile.columns)} columns; candidate keys: {printable(keys)}")
    answer_line(f"draft: {out}")
    if page is not None:
        answer_line(f"profile: {page}")


def _told(value: int | float | str | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
