"""How a command ends: the exit code, and what is said of an error.

0        done
1        the answer is no
2        usage, file or configuration; for commands that connect once: unreachable, bad credentials, missing table
3        `sync --fail-on-quarantine` and something is in quarantine
70       a defect of the program
130/143  ended by SIGINT or SIGTERM
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from cli.answers import error_json, error_line, printable
from cli.options import settings
from pipeline.errors import ConfigError, Problem, SluiceError
from pipeline.redact import redact

EXIT_DEFECT = 70
EXIT_PIPE = 141


class Commands(TyperGroup):
    """The root of all commands: what any of them raises becomes an exit code and words that a person can act on."""

    def invoke(self, ctx: Any) -> Any:
        """Raises typer.Exit with the code that the error stands for."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except SluiceError as error:
            tell(error)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError as error:
            _mute()
            raise typer.Exit(EXIT_PIPE) from error
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception as error:
            _tell_defect(error)
            raise typer.Exit(EXIT_DEFECT) from error


def tell(error: SluiceError) -> None:
    """Says on stderr what happened and what to do next; every problem of a file with its line."""
    problems = getattr(error, "problems", None) or (Problem(error.message, hint=error.hint),)
    if settings.json_logs:
        told = [problem_json(problem) for problem in problems]
        error_json({"level": "error", "event": error.message, "hint": error.hint, "kind": type(error).__name__, "problems": told})
        return
    for problem in problems:
        error_line(
            _shown(problem if problem.file or isinstance(error, ConfigError) else Problem(f"error: {problem.message}", hint=problem.hint))
        )
    if settings.verbose:
        error_line("".join(traceback.format_exception(error)).rstrip())


def problem_json(problem: Problem) -> dict[str, Any]:
    """A problem as it stands in a JSON answer."""
    return {
        "message": redact(problem.message),
        "file": None if problem.file is None else str(problem.file),
        "line": problem.line,
        "hint": None if problem.hint is None else redact(problem.hint),
    }


def _shown(problem: Problem) -> str:
    return "\n".join(printable(line) for line in str(problem).splitlines())


def _tell_defect(error: Exception) -> None:
    text = redact("".join(traceback.format_exception(error)))
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    if settings.verbose:
        hint = "the traceback is below"
    else:
        hint = f"the traceback is in {kept}" if (kept := _keep(text)) else "run it again with -v to see the traceback"
    if settings.json_logs:
        error_json({"level": "error", "event": f"defect: {what}", "hint": hint, "exception": text if settings.verbose else None})
        return
    error_line(f"error: this is a defect of sluice: {printable(what)}; {hint}")
    if settings.verbose:
        error_line(text.rstrip())


def _keep(text: str) -> str | None:
    try:
        file, name = tempfile.mkstemp(prefix="sluice-", suffix=".traceback.txt")
        with os.fdopen(file, "w", encoding="utf-8") as target:
            target.write(text)
    except OSError:
        return None
    return name


def _mute() -> None:
    """Nobody reads the answer any more; the interpreter's own flush at the end must not complain."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
