"""What a target holds is one thing, however many workers have brought it there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dataflows.worker import Worker, reached, turn
from journal.lanes import Done, done_of
from sinks.base import Counts, Cursor
from sinks.sharing import shared_out, whole

PARTITIONS = 12
WORKERS = st.integers(1, 6)


def held(cursors: list[Cursor]) -> list[int]:
    """Up to which entry the target has each partition."""
    found = []
    for partition in range(PARTITIONS):
        mine = cursors[partition % len(cursors)]
        found.append(max(mine.seq, done_of(mine.ahead, partition)))
    return found


@given(st.lists(st.tuples(WORKERS, st.lists(st.integers(0, 30), min_size=6, max_size=6)), min_size=1, max_size=6))
def test_nothing_of_a_partition_is_forgotten_or_made_up_while_the_number_of_workers_changes(rounds: list[tuple[int, list[int]]]) -> None:
    cursors = [Cursor("j", 0)]
    settled = 0
    for workers, moves in rounds:
        before = held(cursors)
        cursors = shared_out(whole(cursors), workers)
        assert held(cursors) == before
        assert [cursor.of for cursor in cursors] == [workers] * workers
        moved = []
        for cursor, move in zip(cursors, moves, strict=False):
            counts = {"a": cursor.counts.get("a", Counts()).plus(delivered=move)}
            settled += move
            moved.append(
                Cursor.decode(Cursor("j", cursor.seq, 1, counts, {}, of=workers, ahead=cursor.ahead).at(cursor.seq + move).encode())
            )
        cursors = moved
    assert whole(cursors).counts["a"].delivered == settled


def test_the_first_worker_goes_first_once_the_others_have_everything_before() -> None:
    first, second = Cursor("j", 10, of=2), Cursor("j", 9, of=2)
    assert turn(Worker(0, 2), first, [first, second], 12) == "wait"
    assert turn(Worker(0, 2), first, [first, second.at(10)], 12) == "write"
    assert turn(Worker(0, 2), first, [first], 12) == "wait"
    assert turn(Worker(1, 2), second.at(10), [first, second], 12) == "wait"
    assert turn(Worker(1, 2), second.at(10), [first.at(12), second], 12) == "follow"
    # it has read more of them than the first one had: waiting for all would be waiting for each other
    assert turn(Worker(1, 2), second.at(10), [first.at(11), second], 12) == "follow"
    assert reached(Worker(1, 2), second.at(10), [first.at(11), second]) == 11


def test_what_has_been_written_once_is_not_written_again() -> None:
    ahead = (Done(0, 2, 12),)
    behind = Cursor("j", 10, of=2, ahead=ahead)
    assert turn(Worker(0, 2), behind, [behind, behind], 12) == "follow"
    assert turn(Worker(0, 2), behind, [behind, behind], 13) == "write"
    assert turn(Worker(1, 2), behind, [behind, behind], 12) == "follow"
