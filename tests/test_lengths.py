"""Medians and percentiles of any number of lengths of time, in little memory: right to within 5 %."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.lengths import KINDS, Lengths, kind_of, with_logarithm

SECONDS = st.floats(0, 4e9)


@given(st.lists(SECONDS, min_size=1, max_size=200))
def test_a_percentile_is_that_of_all_the_lengths_to_within_five_percent(seconds: list[float]) -> None:
    ordered = sorted(seconds)
    found = Lengths.of(seconds)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    assert found.median == pytest.approx(middle, rel=0.045, abs=0.001)
    assert found.p95 == pytest.approx(ordered[math.ceil(0.95 * len(ordered)) - 1], rel=0.045, abs=0.001)
    assert (found.number, found.worst) == (len(seconds), ordered[-1])


def test_few_lengths_are_told_exactly() -> None:
    assert (Lengths.of([10, 20]).median, Lengths.of([10, 20]).p95) == (15, 20)
    assert (Lengths.of([7.5]).median, Lengths.of([7.5]).p95) == (7.5, 7.5)
    assert (Lengths().median, Lengths().p95, Lengths().worst, Lengths().number) == (None, None, None, 0)


def test_one_late_record_moves_neither() -> None:
    found = Lengths.of([60.0] * 99 + [30 * 86_400.0])
    assert (found.median, found.p95, found.worst) == (60.0, 60.0, 30 * 86_400.0)


@given(st.lists(SECONDS, max_size=50), st.lists(SECONDS, max_size=50))
def test_lengths_add_up(some: list[float], others: list[float]) -> None:
    both, whole = Lengths.together([Lengths.of(some), Lengths.of(others)]), Lengths.of([*some, *others])
    assert (both.number, both.worst) == (whole.number, whole.worst)
    assert both.median == pytest.approx(whole.median)
    assert both.p95 == pytest.approx(whole.p95)


@given(SECONDS)
def test_the_database_tells_kinds_apart_as_we_do(seconds: float) -> None:
    with closing(with_logarithm(sqlite3.connect(":memory:"))) as db:
        kind, none = db.execute(f"select {kind_of('?')}, {kind_of('null')}", (seconds,)).fetchone()
    assert [kind] == pytest.approx(list(Lengths.of([seconds]).kinds), abs=1)  # at an edge, either
    assert none is None
    assert 0 < kind < KINDS
