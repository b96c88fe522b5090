"""A row that a sink refused goes back to it once, wherever the process dies that sends it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from journal.batch import ChangeBatch
from journal.inbox import Request
from journal.quarantine import QuarantineRecord, Reason, record_id
from journal.state import State
from pipeline.errors import ConfigError
from tests import journal_cases
from tests.lane_place import SOURCE, TABLE, Place, marker, put


class Died(BaseException):
    """In place of SIGKILL."""


def _die(*_: object) -> None:
    raise Died


def _refused(place: Place) -> QuarantineRecord:
    """The sink `out` has refused the row with the ordinal 1."""
    row = {"id": "a", "amount": "1"}
    one = structs.replace(
        journal_cases.record(place.journal.id, 1, sink="out"),
        id=record_id(place.journal.id, 1, "out"),
        source=SOURCE,
        table=TABLE,
        key={"id": "a"},
        raw=row,
        after=row,
        reasons=(Reason("sink", "amount", "too large"),),
        status="approved",
        approved_by="bo@example.com",
    )
    with closing(State.open(place.folder)) as state:
        state.keep_refused("out", [one], 1)
        state.sink_progress("out", state="running", error=None, journal=place.journal.id, seq=1, cursor="{}")
    return one


def _replay(place: Place, request: Request) -> dict[str, object]:
    doing = place.refused.step(request)
    assert doing is not None
    while True:
        try:
            next(doing)
        except StopIteration as ended:
            answer: dict[str, object] = ended.value
            return answer


def _sent(place: Place) -> list[int]:
    """Ordinals of what is in the journal for the sink alone."""
    batches = [entry for entry in place.entries() if isinstance(entry, ChangeBatch) and entry.sink == "out"]
    return [int(ordinal) for batch in batches for ordinal in batch.ordinal]


def _before_the_journal(place: Place, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(place.journal, "commit_beside", _die)


def _before_the_state_is_told(place: Place, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(place.returns, "sent", lambda ids, seq: _die() if ids else None)


@pytest.mark.parametrize("deadly", [_before_the_journal, _before_the_state_is_told])
def test_a_row_goes_back_once_wherever_its_request_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadly: Callable[[Place, pytest.MonkeyPatch], None]
) -> None:
    place = Place(tmp_path, "newest")
    place.take(marker("start"), [put("a", 1), put("b", 2)], marker("end"))
    one = _refused(place)
    request = Request("4711", 1.0, {"action": "replay", "ids": [one.id], "by": "bo@example.com"})
    with monkeypatch.context() as patch:
        deadly(place, patch)
        with pytest.raises(Died):
            _replay(place, request)
    place.close()
    place = Place(tmp_path, "newest")
    _replay(place, request)
    assert _sent(place) == [1]
    assert place.returns.under_way("out", [1]) == {1: one.id}
    assert place.returns.unsent() == []
    place.close()


def test_records_of_the_gate_and_of_sinks_are_named_in_commands_of_their_own(tmp_path: Path) -> None:
    place = Place(tmp_path, "newest")
    with pytest.raises(ConfigError, match="others of single sinks"):
        place.refused.step(Request("1", 1.0, {"action": "approve", "ids": ["4f1c2a9e-1", "4f1c2a9e-1-out"], "by": "bo@example.com"}))
    place.close()
