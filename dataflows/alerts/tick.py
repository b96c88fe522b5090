"""Alerts as one of the things that the process `watch` does; what they need is imported when there is something to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataflows.stopping import Stop
from pipeline.model import Pipeline

if TYPE_CHECKING:
    from dataflows.alerts.telling import Telling
    from dataflows.watch import Watched
    from pipeline.alerts import Alerts


EVERY = 10.0
"""Seconds between two looks, unless a wait of the pipeline file is shorter."""
_LIGHT = 20  # times as long as it takes to look, it does something else


class AlertTick:
    """See Telling, which is made with the first tick."""

    name = "alerts"

    def __init__(self, pipeline: Pipeline, alerts: Alerts, stop: Stop) -> None:
        self._made_of = (pipeline, alerts, stop)
        self._telling: Telling | None = None
        self.period = max(1.0, min(EVERY, alerts.group_wait))

    def tick(self, now: float) -> None:
        if self._telling is None:
            from dataflows.alerts.telling import Telling

            self._telling = Telling(*self._made_of)
        seconds = self._telling.tick(now)
        self.period = max(1.0, min(EVERY, self._made_of[1].group_wait), _LIGHT * seconds)

    def over(self, deadline: float) -> bool:
        return self._telling is None or self._telling.over(deadline)


def alert_tick(watched: Watched) -> AlertTick | None:
    """None where the pipeline file names nobody to be told."""
    alerts = watched.pipeline.alerts
    return None if alerts is None else AlertTick(watched.pipeline, alerts, watched.stop)
