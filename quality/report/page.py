"""Reports as files: HTML that needs nothing but itself, and JSON."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.errors import TerminalError
from quality.report.charts import sparkline
from quality.report.figures import figures
from quality.report.heat import heat_map
from quality.report.model import DatasetReport
from quality.report.overview import Overview, overview
from quality.report.plot import count, duration, known, percent
from quality.report.twin import as_json, overview_json
from quality.report.words import STATUS_WORDS, budget_left, headline, reasons, service

_LONGEST = 180  # bytes of a file's name, before its ending
_INDEX = "index"
_UNITS = re.compile(r"(?<=\d) (?=(?:y|d|h|min|s|ms)\b|%)")
_LENGTHS = re.compile("(\\d\u00a0(?:y|d|h|min)) (?=\\d)")


def write_reports(pipeline: str, reports: Sequence[DatasetReport], folder: Path) -> list[Path]:
    """Writes DATASET.html and DATASET.json for each, and an index of both kinds; each file appears whole or not at all. Returns the paths.

    Raises TerminalError where the folder cannot be written.
    """
    pages = _environment()
    files: dict[str, str] = {}
    for report in reports:
        name = file_name(report.dataset)
        files[f"{name}.html"] = pages.get_template("dataset.html").render(report=report, figures=figures(report))
        files[f"{name}.json"] = _json(as_json(report))
    whole = overview(pipeline, reports)
    files[f"{_INDEX}.html"] = _index(pages, whole)
    files[f"{_INDEX}.json"] = _json(overview_json(whole, file_name))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_put(folder / name, text) for name, text in files.items()]
    except OSError as error:
        raise TerminalError(f"{folder} cannot be written: {error.strerror or error}", hint="name another folder with --out") from error


def file_name(dataset: str) -> str:
    """A dataset's name as a file's: whatever a file system could mistake is escaped, and a name that is too long ends in a hash."""
    name = quote(dataset, safe=" .", errors="replace")
    if name.startswith((".", " ")) or name == _INDEX:
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) <= _LONGEST:
        return name
    whole = hashlib.sha256(dataset.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{name[: _LONGEST - 13].rstrip('%')}~{whole}"


def _index(pages: Environment, whole: Overview) -> str:
    return pages.get_template("index.html").render(overview=whole)


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _put(path: Path, text: str) -> Path:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, "utf-8", errors="replace")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def _environment() -> Environment:
    pages = Environment(
        loader=PackageLoader("quality.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters |= {
        "amount": lambda number: f"{number:,}",
        "short": count,
        "percent": lambda share: _together(percent(share)),
        "duration": lambda seconds: _together(duration(seconds)),
        "together": _together,
        "time": _time,
        "file": file_name,
        "headline": headline,
        "command": _command,
        "reasons": lambda report: [_together(reason) for reason in reasons(report)],
        "service": service,
        "heat_map": heat_map,
        "left": lambda remaining: _together(budget_left(remaining)),
        "state": lambda status: STATUS_WORDS.get(status, status),
        "kind": lambda kind: kind.removeprefix("expect_").removeprefix("column_values_to_").removeprefix("be_").replace("_", " "),
    }
    pages.globals["spark"] = _spark
    return pages


def _spark(values: Sequence[float | None], told: str) -> Markup:
    """A line of shares, with the lowest in words."""
    picture = sparkline(values, told, high=1.0)
    lowest = min(known(values), default=None)
    # the picture escapes what it is given
    return Markup(picture) + Markup('<span class="under">lowest {}</span>').format(_together(percent(lowest))) if picture else Markup("–")  # noqa: S704


def _together(text: str) -> str:
    """A text in which no number is parted from its unit, nor the two parts of a length of time, at the end of a line."""
    return _LENGTHS.sub("\\1\u00a0", _UNITS.sub("\u00a0", text))


def _command(text: str) -> Markup:
    """A command whose words are broken over lines only where one is longer than a line."""
    return Markup(" ").join(Markup("<span>{}</span>").format(word) for word in text.split(" "))


def _time(moment: datetime | None) -> Markup:
    """A moment in UTC, for people and for machines."""
    if moment is None:
        return Markup("–")
    at = moment.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at:%Y-%m-%d %H:%M} UTC")
