"""Great Expectations in a process of its own, which ends when nobody has asked it anything for a while: its memory goes back then.

`python -m quality.kernels.gx_apart FD SECONDS` answers on the socket FD. It ends with whoever asks, however that ends, and writes nothing
anywhere: frames come and verdicts go through the socket alone.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe

from pipeline.errors import TransientError
from quality.frame import Frame
from quality.kernels.gx import Answer, Forms, Reference

IDLE = 300.0
"""Seconds without a question after which the process ends. To start it takes three seconds, to keep it 250 MB."""


class ReferenceApart(Reference):
    """See Reference. The process is started by the first question, and again by one that comes after it has ended. Of one thread."""

    def __init__(self, idle: float = IDLE) -> None:
        self._idle = idle
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None

    @property
    def pid(self) -> int | None:
        """Of the process; None where there is none."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def judge(self, frame: Frame, rules: Sequence[tuple[str, Mapping[str, object]]], form: Forms = "nullable") -> list[Answer]:
        """See Reference. Raises TransientError where the process was ended while it judged."""
        question = Frame(frame.columns, frame.rows), list(rules), form
        try:
            return self._ask(question)
        except (EOFError, OSError) as error:
            code = None if self._process is None else self._process.wait()
            self.close()
            if code != 0:
                raise TransientError("Great Expectations has ended while it judged", hint="is there too little memory?") from error
        return self._ask(question)  # its time was over just when it was asked

    def _ask(self, question: object) -> list[Answer]:
        line = self.start()
        line.send(question)
        answers: list[Answer] | str = line.recv()
        if isinstance(answers, str):
            raise RuntimeError(f"Great Expectations cannot be asked: {answers}")
        return answers

    def start(self) -> Connection:
        """The line to the process, which is started unless it is there."""
        if self._line is None or self.pid is None:
            self.close()
            self._line, theirs = Pipe()
            with theirs:
                command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(self._idle)]
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        return self._line

    def close(self) -> None:
        """Ends the process; the next question starts another."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._line = self._process = None


def answer(line: Connection, idle: float) -> None:
    """Answers until nobody has asked for so many seconds, or whoever asks is gone."""
    reference: Reference | None = None
    with line:
        while line.poll(idle):
            try:
                frame, rules, form = line.recv()
            except EOFError:
                return
            try:
                reference = reference or Reference()
                line.send(reference.judge(frame, rules, form))
            except Exception as error:  # noqa: BLE001  (who asked is told; what it says may hold values)
                line.send(type(error).__name__)


if __name__ == "__main__":
    for name in (signal.SIGINT, signal.SIGTERM):  # who asks is told, and is waited for
        signal.signal(name, signal.SIG_IGN)
    answer(Connection(int(sys.argv[1])), float(sys.argv[2]))
