"""What all commands have in common: help, streams, exit codes, logs, and that nothing secret is printed."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog
import typer

from cli.answers import answer_table, printable, seconds
from cli.ending import tell
from cli.logs import start_logs
from cli.main import app
from cli.options import settings
from cli.styles import LogFormat
from pipeline.errors import ConfigError, PreflightError, Problem, Refused, TransientError
from pipeline.redact import redact
from tests.invoking import sluice

ROOT = Path(__file__).parents[1]
FILE = """\
pipeline: shop
sources:
  portal: {type: postgres, dsn: "host=localhost dbname=shop password=hunter2", tables: [public.orders]}
sinks:
  warehouse: {type: duckdb, path: w.duckdb}
"""


@pytest.fixture
def pipeline_file(tmp_path: Path) -> Path:
    file = tmp_path / "pipeline.yaml"
    file.write_text(FILE)
    return file


def _run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def _commands() -> list[list[str]]:
    def walk(command: object, path: list[str]) -> list[list[str]]:
        below = getattr(command, "commands", {})
        return [path, *(found for name, child in below.items() for found in walk(child, [*path, name]))]

    return walk(typer.main.get_command(app), [])


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(command: list[str]) -> None:
    done = sluice(*command, "--help")
    assert done.code == 0
    assert re.search(rf"Examples?:\s+sluice {' '.join(command)}", done.out), done.out
    assert sluice(*command, "-h").out == done.out


def test_every_command_that_does_something_takes_the_options_about_logs() -> None:
    for command in _commands():
        text = sluice(*command, "--help").out
        if "COMMAND [ARGS]" not in text:
            assert "--verbose" in text, command
            assert "--log-format" in text, command


def test_help_comes_at_once_and_loads_no_engine() -> None:
    code = "import sys; from cli.main import app; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "pyarrow",
        "duckdb",
        "bytewax",
        "great_expectations",
        "pandas",
        "psycopg",
        "pydantic",
        "sqlalchemy",
        "rich",
        "structlog",
        "numpy",
    }
    assert heavy.isdisjoint(loaded)


def test_the_version_is_told() -> None:
    done = sluice("--version")
    assert done.code == 0
    assert done.out.startswith("sluice")


def test_a_wrong_command_or_option_is_a_usage_error_on_stderr() -> None:
    for arguments in (
        ["chek"],
        ["check"],
        ["check", "a", "b"],
        ["sync", "f", "--timeout", "soon"],
        ["run", "f", "--log-format", "xml"],
        [],
    ):
        done = sluice(*arguments)
        assert done.code == 2, arguments
    assert sluice("chek").out == ""
    assert "Usage: sluice" in sluice("chek").err


@pytest.mark.parametrize("command", ["plan", "run", "sync", "status", "verify", "quarantine list", "quarantine show", "quarantine export"])
def test_every_command_ends_with_2_and_says_why_for_a_file_that_cannot_be_used(command: str, tmp_path: Path) -> None:
    more: dict[str, list[object]] = {"quarantine show": ["1-2"], "quarantine export": ["--out", tmp_path / "o.csv"]}
    rest = more.get(command, [])
    missing = sluice(*command.split(), tmp_path / "none.yaml", *rest)
    assert (missing.code, missing.out) == (2, "")
    assert "none.yaml cannot be read: No such file or directory" in missing.err
    (tmp_path / "p.yaml").write_text(FILE.replace("tables", "tabels").replace("path", "paths"))
    wrong = sluice(*command.split(), tmp_path / "p.yaml", *rest)
    assert (wrong.code, wrong.out) == (2, "")
    assert f"{tmp_path}/p.yaml:3: unknown key `tabels` in `sources.portal`\n  hint: did you mean tables?" in wrong.err
    assert f"{tmp_path}/p.yaml:5: unknown key `paths`" in wrong.err
    assert "hunter2" not in wrong.err


def test_an_unknown_process_is_named_with_those_that_are(pipeline_file: Path) -> None:
    done = sluice("run", pipeline_file, "--only", "deliver:warehous")
    assert done.code == 2
    assert "deliver:warehouse" in done.err


@pytest.mark.parametrize(
    "error, code",
    [
        (TransientError("away"), 2),
        (Refused("no"), 2),
        (PreflightError("not ready", problems=[Problem("one"), Problem("two", hint="do")]), 1),
    ],
)
def test_errors_end_with_their_exit_code(error: Exception, code: int, pipeline_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path) -> None:
        raise error

    monkeypatch.setattr("pipeline.load.load_pipeline", fail)
    done = sluice("status", pipeline_file)
    assert done.code == code
    assert done.out == ""
    if isinstance(error, PreflightError):
        assert done.err == "error: one\nerror: two\n  hint: do\n"


def test_a_defect_ends_with_70_and_keeps_its_traceback_in_a_file(
    pipeline_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(file: Path) -> None:
        raise ZeroDivisionError("password=hunter2")

    monkeypatch.setattr("pipeline.load.load_pipeline", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = sluice("status", pipeline_file)
    assert done.code == 70
    (line,) = done.err.splitlines()
    kept = re.search(r"the traceback is in (\S+)", line)
    assert kept is not None
    text = Path(kept[1]).read_text()
    assert "Traceback" in text
    assert "hunter2" not in text + done.err
    loud = sluice("status", pipeline_file, "-v")
    assert loud.code == 70
    assert "Traceback" in loud.err
    told = json.loads(sluice("status", pipeline_file, "--log-format", "json").err)
    assert told["level"] == "error"


def test_with_json_logs_an_error_is_one_json_line_too(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(FILE.replace("tables", "tabels"))
    done = sluice("status", tmp_path / "p.yaml", "--log-format", "json")
    told = json.loads(done.err)
    assert (told["level"], told["kind"]) == ("error", "ConfigError")
    assert {
        "message": "unknown key `tabels` in `sources.portal`",
        "file": str(tmp_path / "p.yaml"),
        "line": 3,
        "hint": "did you mean tables?",
    } in told["problems"]


def test_an_answer_that_nobody_reads_ends_quietly() -> None:
    process = subprocess.Popen([sys.executable, "-m", "cli", "schema"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_ctrl_c_ends_with_130(tmp_path: Path) -> None:
    fifo = tmp_path / "pipeline.yaml"
    os.mkfifo(fifo)  # the command waits for somebody to write it
    process = subprocess.Popen([sys.executable, "-m", "cli", "check", str(fifo)], cwd=ROOT, stderr=subprocess.PIPE)
    writer = None
    deadline = time.monotonic() + 60
    while writer is None and time.monotonic() < deadline:
        try:
            writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)  # succeeds once it is open for reading
        except OSError:
            time.sleep(0.02)
    assert writer is not None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    os.close(writer)


_SECRETS = [
    "host=db password=hunter2 dbname=d",
    "host=db password='hunter2 and more' dbname=d",
    "postgresql://u:hunter2@h/d",
    "postgresql://u:hunter2@and@h/d?sslmode=require",
    "postgres://u@h/d?password=hunter2&x=1",
    "{'password': 'hunter2', 'x': 1}",
    '{"sasl.password": "hunter2"}',
    "MASK_KEY=hunter2",
    "api-token: hunter2",
    "SLUICE_PASSWORD = hunter2",
]


@pytest.mark.parametrize("text", _SECRETS)
def test_passwords_are_taken_out_of_whatever_is_printed(text: str) -> None:
    assert "hunter2" not in redact(text)
    assert "***" in redact(text)
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text", ["host=db dbname=d", "password authentication failed for user x", "a@b", "http://h/a:b", "2026-01-01T10:00:00", "k=v"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.fixture
def quiet_logs() -> object:
    """Logging as it was before the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    settings.verbose = settings.json_logs = False


@pytest.mark.usefixtures("quiet_logs")
def test_logs_are_json_lines_or_key_value_lines_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    start_logs(style=LogFormat.json, process="deliver:eu")
    log = structlog.get_logger("sluice.test")
    log.info("it's away", sink="eu", dsn="host=x", error="password=hunter2", nested={"password": "hunter2", "a": ["token=hunter2"]})
    log.debug("not told")
    logging.getLogger("library").warning("connecting to %s", "postgresql://u:hunter2@h/d")
    logging.getLogger("library").info("not told")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["level"], first["process"], first["sink"], first["dsn"]) == (
        "it's away",
        "info",
        "deliver:eu",
        "eu",
        "***",
    )
    assert first["nested"] == {"password": "***", "a": ["token=***"]}
    assert second["event"] == "connecting to postgresql://u:***@h/d"
    assert "hunter2" not in json.dumps([first, second])

    start_logs(verbose=True)
    log.debug("told now", rows=5)
    try:
        raise ValueError("password=hunter2")
    except ValueError:
        log.exception("broken")
    out = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r'timestamp=\S+Z level=debug event="told now" rows=5', out[0])
    assert "Traceback" in out[1]
    assert "hunter2" not in out[1]


@pytest.mark.usefixtures("quiet_logs")
def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    start_logs()
    reading, writing = os.pipe()
    os.close(reading)
    broken = os.fdopen(writing, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", broken)
    structlog.get_logger("sluice").error("nobody reads this")
    with pytest.raises(BrokenPipeError):
        broken.close()


@pytest.mark.usefixtures("quiet_logs")
def test_what_is_printed_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[2Jb\nc\x07é☃") == "a\\x1b[2Jb\\nc\\x07é☃"
    answer_table(["name"], [["\x1b[31mred"], ["[bold]not markup"]])
    tell(ConfigError("bad \x1b[2J name"))
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "[bold]not markup" in shown.out


def test_lengths_of_time_are_told_in_a_unit_that_people_use() -> None:
    assert [seconds(length) for length in (None, 0.0042, 1.5, 90, 7200, 172800)] == ["", "4 ms", "1.5 s", "1.5 min", "2.0 h", "2.0 d"]


def test_answers_are_whole_in_a_narrow_encoding(pipeline_file: Path) -> None:
    pipeline_file.write_text(FILE.replace("pipeline: shop", "pipeline: shop\nownr: Zoë"))
    done = _run("check", pipeline_file, env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert done.returncode == 1
    assert "unknown key" in done.stdout
