"""When sinks had what: a line now and then, kept as long as it says anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.deliver import DeliverState
from dataflows.observe import DeliverMetrics
from dataflows.sink_report import SinkReport
from journal.local import JournalWriter
from journal.passages import Passage, passed_at
from journal.state import State
from pipeline.load import load_pipeline
from sinks.base import Cursor
from tests.journal_cases import opened, reading, write

JOURNAL = "0123456789abcdef"
_PIPELINE = """
pipeline: commerce
sources: {db: {type: postgres, dsn: host=x, tables: [public.t]}}
sinks: {eu: {type: duckdb, path: eu.duckdb}}
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State.open(tmp_path)
    yield made
    made.close()


def _tell(state: State, seq: int, *, journal: str = JOURNAL, sink: str = "eu", at: float | None = None, oldest: int = 0) -> None:
    passage = Passage(seq, float(seq) if at is None else at, seq * 10)
    state.sink_progress(sink, state="running", error=None, journal=journal, seq=seq, cursor=f"cursor {seq}", passage=passage, oldest=oldest)


def test_lines_are_kept_by_sink_and_the_first_word_on_an_entry_counts(state: State) -> None:
    assert state.passages("eu", JOURNAL) == []
    _tell(state, 5)
    _tell(state, 5, at=99.0)
    _tell(state, 2)
    _tell(state, 7, sink="us")
    assert state.passages("eu", JOURNAL) == [Passage(2, 2.0, 20), Passage(5, 5.0, 50)]
    assert state.passages("us", JOURNAL) == [Passage(7, 7.0, 70)]
    assert state.passages("eu", "another") == []
    assert state.sinks()["eu"].seq == 2


def test_lines_of_entries_that_are_gone_are_forgotten_but_for_the_last_ones(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journal.passages.KEPT", 3)
    for seq in range(1, 11):
        _tell(state, seq)
    assert len(state.passages("eu", JOURNAL)) == 10
    _tell(state, 11, oldest=6)
    assert [one.seq for one in state.passages("eu", JOURNAL)] == [6, 7, 8, 9, 10, 11]
    _tell(state, 12, oldest=100)
    assert [one.seq for one in state.passages("eu", JOURNAL)] == [10, 11, 12]
    _tell(state, 1, journal="another")
    assert state.passages("eu", JOURNAL) == []


@given(st.sets(st.integers(1, 50), max_size=12), st.integers(1, 50))
def test_an_entry_was_there_by_the_first_line_that_has_it_and_not_before_the_last_that_has_not(seqs: set[int], seq: int) -> None:
    lines = [Passage(one, float(one), one) for one in sorted(seqs)]
    after, by = passed_at(lines, seq)
    assert by == min((one.at for one in lines if one.seq >= seq), default=None)
    assert after == max((one.at for one in lines if one.seq < seq), default=None)


class _Clock:
    """The clocks of a report, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 1e9


@pytest.fixture
def report(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SinkReport, _Clock, JournalWriter]]:
    clock = _Clock()
    monkeypatch.setattr("dataflows.sink_report.time", clock)
    folder = tmp_path / ".sluice" / "commerce"
    folder.mkdir(parents=True)
    file = tmp_path / "pipeline.yaml"
    file.write_text(_PIPELINE)
    with opened(folder) as writer:
        write(writer)
        made = SinkReport("eu", state, DeliverState(), DeliverMetrics())
        made.follow(load_pipeline(file))
        yield made, clock, writer


def _seqs(state: State, journal: str) -> list[tuple[int, float]]:
    return [(one.seq, one.at - 1e9) for one in state.passages("eu", journal)]


def test_a_sink_that_moves_writes_a_line_a_second_and_its_last_one_at_its_end(
    report: tuple[SinkReport, _Clock, JournalWriter], state: State
) -> None:
    told, clock, writer = report

    def commit(after: float) -> int:
        clock.now += after
        seq = write(writer)
        told.committed(Cursor(writer.id, seq))
        told.tell()
        return seq

    first = commit(0.0)
    for _ in range(8):
        commit(0.2)
    assert [at for _, at in _seqs(state, writer.id)] == pytest.approx([1000.0, 1001.0])
    last = commit(0.1)
    clock.now += 5.0
    told.tell()
    seqs, times = zip(*_seqs(state, writer.id), strict=True)
    assert (seqs[0], seqs[-1]) == (first, last)
    assert times[-1] == pytest.approx(1001.7), "when it was committed, not when it was told"
    final = commit(0.1)
    assert final not in dict(_seqs(state, writer.id))
    told.ended()
    told.tell()
    assert final in dict(_seqs(state, writer.id))


def test_a_line_tells_the_highest_change_that_the_sink_has(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        first, second = write(writer, rows=3), write(writer, rows=4)
        with reading(tmp_path) as reader:
            assert [reader.ordinal_at(seq) for seq in (0, first, second)] == [0, 3, 7]
            writer.prune(second)
            assert [reader.ordinal_at(seq) for seq in (first, second)] == [7, 7]
