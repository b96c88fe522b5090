"""The audit as a dataflow: windows of the journal, what is said of them, the state."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from dataflows.audit_judging import WindowVerdict
from dataflows.audit_windows import Window
from dataflows.ending import Ending


class _Stretches(StatefulSourcePartition[tuple[str, Window], None]):
    """One window at a time, so that no more than one is in memory."""

    def __init__(self, windows: Iterator[Window], ending: Ending) -> None:
        self._windows = windows
        self._ending = ending

    def next_batch(self) -> list[tuple[str, Window]]:
        with self._ending.on_error():
            window = None if self._ending else next(self._windows, None)
            if window is not None:
                return [(window.dataset, window)]
        raise StopIteration

    def snapshot(self) -> None:
        """The place is in the state."""


class _Source(FixedPartitionedSource[tuple[str, Window], None]):
    def __init__(self, windows: Iterator[Window], ending: Ending) -> None:
        self._part = _Stretches(windows, ending)

    def list_parts(self) -> list[str]:
        return ["windows"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Stretches:
        return self._part


class _Keeping(StatefulSinkPartition[WindowVerdict, None]):
    def __init__(self, keep: Callable[[WindowVerdict], None], ending: Ending) -> None:
        self._keep = keep
        self._ending = ending

    def write_batch(self, items: list[WindowVerdict]) -> None:
        for verdict in items:
            if not self._ending:
                with self._ending.on_error():
                    self._keep(verdict)

    def snapshot(self) -> None:
        """What is kept is kept at once."""


class _State(FixedPartitionedSink[WindowVerdict, None]):
    def __init__(self, keep: Callable[[WindowVerdict], None], ending: Ending) -> None:
        self._part = _Keeping(keep, ending)

    def list_parts(self) -> list[str]:
        return ["state"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Keeping:
        return self._part


def audit_flow(
    windows: Iterator[Window], judge: Callable[[Window], WindowVerdict], keep: Callable[[WindowVerdict], None], ending: Ending
) -> Dataflow:
    """windows → judge → state, in one worker. An error of ours in any of them ends it, and is in `ending`."""
    flow = Dataflow("audit")
    stream = op.input("windows", flow, _Source(windows, ending))

    def judged(window: Window) -> list[WindowVerdict]:
        with ending.on_error():
            if not ending:
                return [judge(window)]
        return []

    op.output("state", op.flat_map_value("judge", stream, judged), _State(keep, ending))
    return flow
