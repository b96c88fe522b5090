"""A command in this process as it would run in one of its own: what it and its children write, and how it ends.

A process of its own takes most of a second to load the libraries, and the tests start hundreds of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO
from unittest.mock import patch

from tests.nursery import Born

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_HOUSE = str(Path(__file__).parent.parent)


def called(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
    """The exit code of `sluice ARGUMENTS`, and all that came on its stdout and stderr."""
    from cli.main import app

    with ExitStack() as held:
        held.enter_context(patch.dict(os.environ, environment))
        held.enter_context(patch.object(subprocess, "Popen", Born))
        held.enter_context(_signals_as_before())
        held.enter_context(modules_of_its_own())
        out, err = (held.enter_context(_into_a_file(number)) for number in (1, 2))
        code = 0
        try:
            app(list(arguments), prog_name="sluice")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        return code, _content(out), _content(err)


@contextmanager
def _into_a_file(number: int) -> Iterator[IO[bytes]]:
    """What is written to a file descriptor, here or by children, goes into a file."""
    name = {1: "stdout", 2: "stderr"}[number]
    before, kept = getattr(sys, name), os.dup(number)
    before.flush()
    with tempfile.TemporaryFile() as file, open(file.fileno(), "w", encoding="utf-8", closefd=False) as written:
        os.dup2(file.fileno(), number)
        setattr(sys, name, written)
        try:
            yield file
        finally:
            written.flush()
            setattr(sys, name, before)
            os.dup2(kept, number)
            os.close(kept)


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


@contextmanager
def modules_of_its_own() -> Iterator[None]:
    """What a command loads from the folder of its pipeline, another one's folder may have under the same name."""
    path, before = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in sys.modules.keys() - before:
            file = str(getattr(sys.modules[name], "__file__", None) or "")
            if file.startswith(tempfile.gettempdir()) and not file.startswith(_HOUSE):
                del sys.modules[name]


@contextmanager
def _signals_as_before() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
