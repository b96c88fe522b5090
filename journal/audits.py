"""What audits found, and what is not as it should be: written by the process `watch` and by ingest, read by reports and alerts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from journal import state_file as tables
from journal.audit_tables import Audited, AuditPlace, Incident
from journal.state_access import StateAccess

__all__ = ["AuditPlace", "Audited", "Audits", "Incident"]

KEPT_SECONDS = 90 * 86_400.0
"""For so long windows and incidents that are over are kept."""
KEPT_WINDOWS = 100_000
"""Lines of windows of a dataset that are kept at most."""

_audited, _incident, _place = tables.audits


class Audits(StateAccess):
    """The audits of a pipeline."""

    def keep(self, lines: Sequence[Audited], place: AuditPlace | None = None) -> None:
        """What was found in a window, with the place that the audit has then come to: both or nothing. Harmless when told again."""
        with self._writing() as connection:
            if lines:
                rows = [{**asdict(one), "observed": None if one.observed is None else json.dumps(one.observed)} for one in lines]
                connection.execute(insert(_audited).prefix_with("or replace"), rows)
            if place is not None:
                connection.execute(insert(_place).prefix_with("or replace"), asdict(place))

    def windows(self, dataset: str, since: float = 0.0, rule: str | None = None) -> list[Audited]:
        """What was found in windows of a dataset since a time (seconds since 1970), oldest first; of one rule, or ('') of whole windows."""
        if not self._has(_audited):
            return []
        chosen = sa.select(_audited).where(_audited.c.dataset == dataset, _audited.c.at >= since)
        if rule is not None:
            chosen = chosen.where(_audited.c.rule == rule)
        rows = self._read(chosen.order_by(_audited.c.at, _audited.c.last, _audited.c.rule))
        return [Audited(**{**row, "observed": None if row["observed"] is None else json.loads(row["observed"])}) for row in rows]

    def verdicts(self, dataset: str, since: float) -> dict[str, tuple[int, int, float]]:
        """Verdict -> in how many windows of rules of a dataset it was given since a time, on how many rows in all, and when last."""
        if not self._has(_audited):
            return {}
        mine = sa.and_(_audited.c.dataset == dataset, _audited.c.at >= since, _audited.c.rule != "")
        numbers = (sa.func.count().label("windows"), sa.func.sum(_audited.c.rows).label("judged"), sa.func.max(_audited.c.at).label("last"))
        rows = self._read(sa.select(_audited.c.verdict, *numbers).where(mine).group_by(_audited.c.verdict))
        return {row["verdict"]: (row["windows"], row["judged"], row["last"]) for row in rows}

    def place(self, dataset: str) -> AuditPlace | None:
        """How far the audit of a dataset has come; None before it has begun."""
        rows = self._read(sa.select(_place).where(_place.c.dataset == dataset)) if self._has(_place) else []
        return AuditPlace(**rows[0]) if rows else None

    def incidents(self, dataset: str | None = None, *, open_only: bool = True, since: float = 0.0) -> list[Incident]:
        """The incidents of a dataset, or of all, oldest first; of those that are over the ones that were seen since a time."""
        if not self._has(_incident):
            return []
        chosen = sa.select(_incident).where(_incident.c.resolved_at.is_(None) if open_only else _incident.c.last >= since)
        if dataset is not None:
            chosen = chosen.where(_incident.c.dataset == dataset)
        return [_read_incident(row) for row in self._read(chosen.order_by(_incident.c.since, _incident.c.id))]

    def seen(self, dataset: str, kind: str, rule: str, detail: Mapping[str, Any], now: float) -> None:
        """Something is not as it should be: opens an incident, or goes on with the one that is open, whose detail this becomes."""
        told = json.dumps(dict(detail))
        with self._writing() as connection:
            again = {"last": now, "count": _incident.c.count + 1, "detail": told}
            if connection.execute(sa.update(_incident).where(*_open(dataset, kind, rule)).values(again)).rowcount:
                return
            number = hashlib.sha256(json.dumps([dataset, kind, rule, now]).encode()).hexdigest()[:12]
            row = {"id": number, "dataset": dataset, "kind": kind, "rule": rule, "since": now, "last": now, "count": 1, "detail": told}
            connection.execute(insert(_incident).values(row).on_conflict_do_update(index_elements=["id"], set_={"last": now}))

    def over(self, dataset: str, kind: str, now: float, *, rules: Collection[str] | None = None) -> None:
        """Incidents of a kind that are seen no more: all, or those of some rules."""
        which = [_incident.c.dataset == dataset, _incident.c.kind == kind]
        if rules is not None:
            which.append(_incident.c.rule.in_(list(rules)))
        self._resolve(now, *which)

    def over_unknown(self, dataset: str, rules: Collection[str], now: float) -> None:
        """The incidents of all but these rules of a dataset: there are no others any more."""
        self._resolve(now, _incident.c.dataset == dataset, _incident.c.rule.not_in(list(rules)))

    def over_but(self, datasets: Collection[str], now: float) -> None:
        """The incidents of all other datasets: they have no contract any more."""
        self._resolve(now, _incident.c.dataset.not_in(list(datasets)))

    def _resolve(self, now: float, *which: sa.ColumnElement[bool]) -> None:
        unresolved = sa.and_(*which, _incident.c.resolved_at.is_(None))
        if self._has(_incident) and self._read(sa.select(_incident.c.id).where(unresolved).limit(1)):
            with self._writing() as connection:
                connection.execute(sa.update(_incident).where(unresolved).values(resolved_at=now))

    def forget(self, now: float) -> None:
        """Drops what is older than it is kept, and of each dataset all but the newest windows."""
        if not self._has(_audited):
            return
        before = now - KEPT_SECONDS
        with self._writing() as connection:
            connection.execute(sa.delete(_audited).where(_audited.c.at < before))
            connection.execute(sa.delete(_incident).where(_incident.c.resolved_at < before))
            for (dataset,) in connection.execute(sa.select(_audited.c.dataset).distinct()).all():
                mine = _audited.c.dataset == dataset
                oldest = sa.select(_audited.c.at).where(mine).order_by(_audited.c.at.desc()).limit(1).offset(KEPT_WINDOWS)
                connection.execute(sa.delete(_audited).where(mine, _audited.c.at <= oldest.scalar_subquery()))


def _open(dataset: str, kind: str, rule: str) -> list[sa.ColumnElement[bool]]:
    named = [_incident.c.dataset == dataset, _incident.c.kind == kind, _incident.c.rule == rule]
    return [*named, _incident.c.resolved_at.is_(None)]


def _read_incident(row: Mapping[str, Any]) -> Incident:
    return Incident(**{**row, "detail": json.loads(row["detail"])})
