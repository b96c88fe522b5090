"""What `sync` shows while it works: bars for the copies on a terminal, a log line now and then otherwise."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from cli.styles import LogFormat

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from journal.state import State

log = structlog.get_logger("sluice.sync")

Follow = Callable[["State"], None]

_REFRESH = 0.2  # seconds between looks at the state
_REPORT = 5.0  # seconds between log lines
_COPYING = "copying"


@contextmanager
def following(log_format: LogFormat) -> Iterator[Follow]:
    """Gives what `sync` calls with the state, some times a second."""
    if log_format is LogFormat.console and sys.stderr.isatty():
        with _terminal() as bars:
            yield bars
    else:
        yield _Lines()


class _Lines:
    """A log line for each table under copy every few seconds; that it is done, ingest says."""

    def __init__(self) -> None:
        self._next = 0.0
        self._began: dict[str, tuple[float, int]] = {}

    def __call__(self, state: State) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _REFRESH
        for name, table in _tables(state):
            if table["state"] == _COPYING and table.get("rows_copied"):
                self._tell(name, table, now)
            else:
                self._began.pop(name, None)

    def _tell(self, name: str, table: Mapping[str, Any], now: float) -> None:
        rows, total = table["rows_copied"], table.get("rows_total")
        since, before = self._began.setdefault(name, (now, rows))
        if now - since < _REPORT or now == since:
            return
        rate = (rows - before) / (now - since)
        left = None if not total or rate <= 0 or total < rows else round((total - rows) / rate)
        log.info(
            "copying", table=name, rows=rows, of=total, bytes=table.get("bytes_copied"), rows_per_second=round(rate), seconds_left=left
        )
        self._began[name] = (now, rows)


@contextmanager
def _terminal() -> Iterator[Follow]:
    """Bars at the bottom of the terminal; what this process and its children log goes above them.

    The children inherit a pipe as their stderr, so that no line is written into the bars.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    sys.stderr.flush()
    terminal = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    with os.fdopen(terminal, "w", encoding="utf-8", errors="backslashreplace") as screen:
        console = Console(file=screen, force_terminal=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows  {task.fields[rate]}"),
            TextColumn("{task.fields[size]}"),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=console, transient=False, redirect_stdout=False, redirect_stderr=False) as bars:

            def pass_on() -> None:
                with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
                    for line in lines:
                        console.print(Text(line.rstrip("\n")), soft_wrap=True)

            reader = threading.Thread(target=pass_on, name="log lines", daemon=True)
            reader.start()
            try:
                yield _Bars(bars)
            finally:
                sys.stderr.flush()
                os.dup2(terminal, 2)
                reader.join(1.0)


class _Bars:
    """A bar for each table while it is copied."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}
        self._next = 0.0

    def __call__(self, state: State) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _REFRESH
        for name, table in _tables(state):
            copying = table["state"] == _COPYING
            if not copying and name not in self._bars:
                continue
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(name, total=None, rate="", size="")
            self._show(self._bars[name], table, done=not copying)

    def _show(self, bar: TaskID, table: Mapping[str, Any], done: bool) -> None:
        from rich.filesize import decimal

        rows, total = table.get("rows_copied") or 0, table.get("rows_total")
        task = self._progress.tasks[self._progress.task_ids.index(bar)]
        speed = task.finished_speed or task.speed
        self._progress.update(
            bar,
            completed=rows,
            total=rows if done else max(rows, total) if total else None,  # the total is an estimate
            rate="" if speed is None else f"{speed:,.0f}/s".replace(",", " "),
            size=decimal(table.get("bytes_copied") or 0),
        )


def _tables(state: State) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for source, status in state.sources().items():
        for table, told in status.get("tables", {}).items():
            yield f"{source}.{table}", told
