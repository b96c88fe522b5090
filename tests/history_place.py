"""Histories of a small table as its source would send them, for tests of rules that compare a change with the one before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from journal.batch import ChangeBatch, CopyMarker, Op
from journal.schema import Column, TableSchema
from tests.lane_place import SOURCE, TABLE

SCHEMA = TableSchema(
    "orders", (Column("id", "bigint", 1), Column("status", "text", 2), Column("owner", "text", 3), Column("n", "bigint", 4)), ("id",)
)
MESSAGES = replace(SCHEMA, columns=tuple(replace(column, attnum=0) for column in SCHEMA.columns))
"""The same of a source that numbers no columns, and sends what it likes."""

Row = dict[str, str | None]
Event = tuple[str, int, str | None, str | None, int]

EVENTS = st.tuples(
    st.sampled_from("IUUUDMTLC"),
    st.integers(1, 3),
    st.sampled_from(["a", "b", "c", "Y", "Z", None]),
    st.sampled_from(["x", "y", None]),
    st.integers(0, 4),
)
"""Insert, Update, Delete, Move to the next key, Truncate, an update that Leaves the status out, a Copy; key, status, owner and n."""
HISTORIES = st.lists(st.lists(EVENTS, min_size=1, max_size=6), min_size=1, max_size=6)

PROPERTIES = """\
    properties:
      - {{name: id, logicalType: integer, primaryKey: true}}
      - name: status
        logicalType: string
        quality: [{{id: known, metric: invalidValues, arguments: {{pattern: '{pattern}'}}, mustBe: 0}}]
      - {{name: owner, logicalType: string}}
      - {{name: n, logicalType: integer}}
"""
STEPS = "{type: transition, column: status, allowed: [{from: a, to: b}, {from: b, to: [c, Z]}, {from: Z, to: a}]}"
RULES = {"steps": STEPS, "stays": "{type: immutable, column: owner}", "rises": "{type: monotonic, column: n}"}

RuleSet = tuple[tuple[str, str, list[str]], ...]
_ON = st.sampled_from([["insert", "update"], ["update"], ["insert"]])
_ACTIONS = st.sampled_from(["quarantine", "quarantine", "warn", "drop"])
RULE_SETS: st.SearchStrategy[RuleSet] = st.tuples(*(st.tuples(st.just(name), _ACTIONS, _ON) for name in RULES))


def contract(pattern: str, rules: Iterable[tuple[str, str, Sequence[str]]] = (), order: str = "newest") -> str:
    """What a contract says of the table: what a status may look like, and rules (id, action, on) of RULES."""
    text = PROPERTIES.format(pattern=pattern)
    chosen = [
        f"      - {{id: {name}, type: custom, engine: sluice, implementation: {RULES[name]}, "
        f"customProperties: [{{property: action, value: {action}}}, {{property: 'on', value: [{', '.join(on)}]}}]}}\n"
        for name, action, on in rules
    ]
    text += "    quality:\n" + "".join(chosen) if chosen else ""
    return text + f"    customProperties: [{{property: order, value: {order}}}]\n"


@dataclass
class Table:
    """The table at its source. `full`: its log has whole old rows; `schema` says whether it is a table of a database."""

    full: bool = False
    schema: TableSchema = SCHEMA
    rows: dict[int, Row] = field(default_factory=dict)

    def send(self, events: Sequence[Event]) -> list[ChangeBatch | CopyMarker]:
        """One transaction as ingest gets it."""
        found: list[ChangeBatch | CopyMarker] = []
        run: list[tuple[Op, Row, Row | None, bool]] = []
        for event in events:
            if event[0] == "C":
                copied = [(Op.READ, row, None, False) for row in self.rows.values()]
                found += [*self._batch(run), self._marker("start"), *self._batch(copied), self._marker("end")]
                run = []
            else:
                run += self._change(*event)
        return [*found, *self._batch(run)]

    def _change(self, kind: str, key: int, status: str | None, owner: str | None, n: int) -> list[tuple[Op, Row, Row | None, bool]]:
        """What comes of an event; a database has no update of a row that is not there."""
        row: Row = {"id": str(key), "status": status, "owner": owner, "n": str(n)}
        before = self.rows.get(key)
        if kind == "T":
            self.rows.clear()
            return [(Op.TRUNCATE, dict.fromkeys(row), None, False)]
        if kind == "D":
            gone = self.rows.pop(key, None)
            shown = row if self.full and gone is None else gone if self.full else {"id": str(key)}
            return [] if gone is None and self.schema is SCHEMA else [(Op.DELETE, {**dict.fromkeys(row), **(shown or {})}, None, False)]
        op = Op.INSERT if kind == "I" else Op.UPDATE
        if self.schema is SCHEMA:
            op = Op.INSERT if before is None else Op.UPDATE
        if op is Op.UPDATE and before is not None and kind == "M" and key + 1 not in self.rows:
            del self.rows[key]
            row["id"] = str(key + 1)
        left_out = op is Op.UPDATE and before is not None and kind == "L" and before["status"] is not None
        if left_out and before is not None:
            row["status"] = before["status"]
        self.rows[int(row["id"] or 0)] = row
        old = None
        if op is Op.UPDATE and before is not None and (self.full or row["id"] != before["id"]):
            old = before if self.full else {**dict.fromkeys(row), "id": before["id"]}
        return [(op, row, old, left_out)]

    def _batch(self, changes: Sequence[tuple[Op, Row, Row | None, bool]]) -> list[ChangeBatch]:
        n = len(changes)
        if not n:
            return []
        names = self.schema.names
        left_out = np.array([left for *_, left in changes], np.bool_)
        ends = np.array([op is Op.DELETE and not self.full for op, *_ in changes], np.bool_)
        columns = [
            pa.array([None if name == "status" and left_out[i] else row[name] for i, (_, row, _, _) in enumerate(changes)], pa.string())
            for name in names
        ]
        absent = {c: ends | left_out if name == "status" else ends for c, name in enumerate(names) if name != "id"}
        has_old = np.array([old is not None for _, _, old, _ in changes], np.bool_)
        olds = {c: pa.array([None if old is None else old[name] for _, _, old, _ in changes], pa.string()) for c, name in enumerate(names)}
        return [
            ChangeBatch(
                schema=self.schema,
                source=SOURCE,
                table=TABLE,
                op=np.array([op for op, *_ in changes], np.uint8),
                lsn=np.zeros(n, np.int64),
                nth=np.arange(n, dtype=np.int64),
                time=np.zeros(n, np.int64),
                ordinal=np.zeros(n, np.int64),
                columns=tuple(columns),
                presence={c: mask.astype(np.uint8) for c, mask in absent.items() if mask.any()},
                old=olds if has_old.any() else {},
                has_old=has_old if has_old.any() else None,
            )
        ]

    def _marker(self, phase: Literal["start", "end"]) -> CopyMarker:
        return CopyMarker(self.schema, SOURCE, TABLE, phase, 0)
