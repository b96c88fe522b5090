"""Great Expectations in a process of its own: the same verdicts, and its memory goes back when nobody asks."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from multiprocessing.connection import Pipe

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import TransientError
from quality.frame import Frame
from quality.kernels.gx import Refusal
from quality.kernels.gx_apart import ReferenceApart, answer
from quality.kernels.verdict import RowVerdict, SetVerdict
from tests.waiting import wait_for

FRAME = Frame({"amount": pa.array([1, None, -3], pa.int64()), "note": pa.array(["a", "b", "a"])}, 3)
POSITIVE = ("expect_column_values_to_be_between", {"column": "amount", "min_value": 0})


def test_it_judges_as_it_does_here() -> None:
    distinct = ("expect_column_unique_value_count_to_be_between", {"column": "note", "min_value": 3})
    with closing(ReferenceApart()) as apart:
        with pytest.raises(RuntimeError, match="cannot be asked: AttributeError"):
            apart.judge(FRAME, [POSITIVE], form=7)  # type: ignore[arg-type]
        rows, whole, refused = apart.judge(FRAME, [POSITIVE, distinct, ("expect_nothing", {})])
    assert isinstance(rows, RowVerdict)
    assert (rows.evaluated, rows.success, np.flatnonzero(rows.failed).tolist()) == (2, False, [2])
    assert whole == SetVerdict(False, 2)
    assert isinstance(refused, Refusal)


class _Killing:
    """Kills a process when it is put on its way."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __reduce__(self) -> tuple[type[str], tuple[()]]:
        os.kill(self._pid, signal.SIGKILL)
        return str, ()


def test_one_that_is_killed_while_it_judges_is_told_of_and_started_again() -> None:
    with closing(ReferenceApart()) as apart:
        apart.start()
        first = apart.pid
        assert first is not None
        with pytest.raises(TransientError, match="has ended while it judged"):
            apart.judge(FRAME, [("expect_nothing", {"pid": _Killing(first)})])
        assert apart.pid is None
        apart.start()
        assert apart.pid not in (None, first)


def test_it_ends_when_nobody_asks() -> None:
    with closing(ReferenceApart(idle=0.1)) as apart:
        apart.start()
        wait_for(lambda: apart.pid is None, 30, "the process to end by itself")


def test_it_ends_when_who_asks_is_gone() -> None:
    ours, theirs = Pipe()
    ours.close()
    answer(theirs, 600)
    assert theirs.closed
