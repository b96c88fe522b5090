"""Answers to stdout, errors to stderr: JSON, tables and plain lines, all in one place."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pipeline.redact import redact

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_WIDTH_OF_A_FILE = 160


def answer_json(content: object) -> None:
    """One JSON document, indented; everything in it is printable, and nothing is escaped that need not be."""
    _write(sys.stdout, json.dumps(content, indent=2, ensure_ascii=False, default=_plain) + "\n")


def answer_line(text: str = "") -> None:
    """A line of an answer."""
    _write(sys.stdout, text + "\n")


def answer_lines(text: str, lead: str = "") -> None:
    """Text of several lines, printable and without secrets; the first begins with `lead`, the others stand below it."""
    for n, line in enumerate(redact(text).splitlines()):
        answer_line((lead if n == 0 else " " * len(lead)) + printable(line))


def answer_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None, right: Sequence[str] = ()) -> None:
    """A table; the columns named in `right` hold numbers. Nothing is cut where no terminal sets the width."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    _console(sys.stdout).print(table)
    sys.stdout.flush()


def answer_shown(what: RenderableType) -> None:
    """Whatever rich can draw; its texts are printable already."""
    _console(sys.stdout).print(what)
    sys.stdout.flush()


def error_line(text: str) -> None:
    """A line for people about what went wrong, without secrets."""
    _write(sys.stderr, redact(text) + "\n")


def error_json(content: dict[str, Any]) -> None:
    """The same as one JSON line, beside the logs."""
    _write(sys.stderr, redact(json.dumps(content, ensure_ascii=False, default=_plain)) + "\n")


def printable(text: str) -> str:
    """The text with control characters shown, which could otherwise drive the reader's terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def amount(number: int | None) -> str:
    """A count with its thousands apart."""
    return "" if number is None else f"{number:,}".replace(",", " ")


def seconds(length: float | None) -> str:
    """A length of time, in the unit that a person would use."""
    if length is None:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if length >= size:
            return f"{length / size:.1f} {unit}"
    return f"{length:.1f} s" if length >= 1 else f"{length * 1000:.0f} ms"


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, width=None if stream.isatty() else _WIDTH_OF_A_FILE, highlight=False)


def _write(stream: TextIO, text: str) -> None:
    stream.write(text.encode(stream.encoding or "utf-8", "backslashreplace").decode(stream.encoding or "utf-8"))
    stream.flush()


_FORMS: tuple[tuple[tuple[type, ...], Callable[[Any], object]], ...] = (
    ((datetime, date), lambda value: value.isoformat()),
    ((Path, Decimal), str),
    ((bytes,), lambda value: value.decode("utf-8", "backslashreplace")),
    ((set, frozenset), sorted),
    ((tuple,), list),
)


def _plain(value: object) -> object:
    for kinds, form in _FORMS:
        if isinstance(value, kinds):
            return form(value)
    raise TypeError(f"{type(value).__name__} is not part of an answer")
