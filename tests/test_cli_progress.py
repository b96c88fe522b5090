"""`sync` shows its copies: bars on a terminal, log lines elsewhere."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import structlog

import cli.progress
from cli.progress import following
from cli.styles import LogFormat
from journal.state import State

ROOT = Path(__file__).parents[1]

_SHOWN = """\
import os, select, subprocess, sys
from pathlib import Path
from cli.logs import start_logs
from cli.progress import following
from cli.styles import LogFormat
from journal.state import State

style = LogFormat(sys.argv[2])
start_logs(style=style)
state = State.open(Path(sys.argv[1]))
with following(style) as follow:
    for rows, phase in ((1000, "copying"), (40000, "copying"), (100000, "streaming")):
        table = {"state": phase, "error": None, "rows_copied": rows, "rows_total": 90000, "bytes_copied": rows * 100}
        state.source_status("portal", {"state": phase, "tables": {"public.orders": table}})
        subprocess.run([sys.executable, "-c", f"import sys; print('a child says {rows}', file=sys.stderr)"])
        while not select.select([0], [], [], 0.01)[0]:  # until it has been seen
            follow(state)
        os.read(0, 1)
print("over", file=sys.stderr)
"""


def _on_a_terminal(folder: Path) -> str:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_SHOWN), str(folder), "console"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    assert process.stdin is not None
    os.close(slave)
    out, to_be_seen = b"", [b"1000/90000", b"40000/90000", b"100000/100000"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.2)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            got = os.read(master, 65536)
        except OSError:
            break
        if not got:
            break
        out += got
        if to_be_seen and to_be_seen[0] in out:
            del to_be_seen[0]
            os.write(process.stdin.fileno(), b".")
    os.close(master)
    process.stdin.close()
    assert process.wait(60) == 0, out
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.decode("utf-8", "replace"))


@pytest.mark.timeout(90)
def test_on_a_terminal_a_bar_tells_rows_bytes_rate_and_what_children_log_stays_whole(tmp_path: Path) -> None:
    shown = _on_a_terminal(tmp_path)
    lines = [line.strip() for line in shown.replace("\r", "\n").splitlines()]
    assert any("portal.public.orders" in line and "40000/90000" in line and "4.0 MB" in line for line in lines), shown
    assert any("portal.public.orders" in line and "100000/100000" in line and "/s" in line for line in lines), shown
    assert {"a child says 1000", "a child says 40000", "a child says 100000", "over"} <= set(lines), shown


def test_elsewhere_log_lines_tell_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.progress, "_REPORT", 0.0)
    monkeypatch.setattr(cli.progress, "_REFRESH", 0.0)
    state = State.open(tmp_path)
    with structlog.testing.capture_logs() as told, following(LogFormat.json) as follow:
        for rows, phase in ((1000, "copying"), (40000, "copying"), (100000, "streaming")):
            table = {"state": phase, "rows_copied": rows, "rows_total": 90000, "bytes_copied": rows * 100}
            state.source_status("portal", {"state": phase, "tables": {"public.orders": table}})
            follow(state)
    state.close()
    (line,) = told
    assert (line["event"], line["table"], line["rows"], line["of"]) == ("copying", "portal.public.orders", 40000, 90000)
    assert line["bytes"] == 4_000_000
    assert line["rows_per_second"] > 0
    assert line["seconds_left"] >= 0
