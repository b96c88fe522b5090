"""Reports as files: HTML that needs nothing but itself, and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.errors import TerminalError
from quality.report.model import DatasetReport


def write_reports(reports: Sequence[DatasetReport], folder: Path) -> list[Path]:
    """Writes DATASET.html and DATASET.json for each, and index.html; each file appears whole or not at all. Returns the paths.

    Raises TerminalError where the folder cannot be written.
    """
    pages = _environment()
    files: dict[str, str] = {}
    for report in reports:
        name = file_name(report.dataset)
        files[f"{name}.html"] = pages.get_template("dataset.html").render(report=report)
        files[f"{name}.json"] = json.dumps(as_json(report), indent=2, ensure_ascii=False) + "\n"
    files["index.html"] = pages.get_template("index.html").render(reports=reports)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_put(folder / name, text) for name, text in files.items()]
    except OSError as error:
        raise TerminalError(f"{folder} cannot be written: {error.strerror or error}", hint="name another folder with --out") from error


def as_json(report: DatasetReport) -> dict[str, object]:
    """The numbers of a page, with its verdicts."""
    told = asdict(report)
    told["verdict"], told["pass_rate"] = report.verdict, report.pass_rate
    for line, sink in zip(told["sinks"], report.sinks, strict=True):
        line["verdict"] = sink.verdict
    for line, rule in zip(told["rules"], report.rules, strict=True):
        line["pass_rate"] = rule.pass_rate
    plain: dict[str, object] = json.loads(json.dumps(told, default=_plain))
    return plain


def file_name(dataset: str) -> str:
    """A dataset's name as a file's: whatever a file system could mistake is escaped."""
    return quote(dataset, safe=" ").replace(".", "%2E") if dataset.startswith(".") else quote(dataset, safe=" .")


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    raise TypeError(f"{type(value).__name__} has no place in a report")


def _put(path: Path, text: str) -> Path:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, "utf-8")
    fresh.replace(path)
    return path


def _environment() -> Environment:
    pages = Environment(
        loader=PackageLoader("quality.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters["count"] = lambda n: f"{n:,}"
    pages.filters["percent"] = _percent
    pages.filters["time"] = lambda t: "–" if t is None else t.strftime("%Y-%m-%d %H:%M:%S UTC")
    pages.filters["file"] = file_name
    return pages


def _percent(share: float | None) -> str:
    """Never rounded up to 100 %, which would say that nothing is wrong."""
    if share is None:
        return "–"
    return "100 %" if share == 1 else f"{min(share * 100, 99.99):.2f} %"
