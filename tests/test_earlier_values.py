"""What a change is compared with: the value that passed last for its key, whatever happened in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dataflows.build import contracts
from dataflows.earlier_values import EarlierValues
from dataflows.judging import Judge, JudgedBatch
from dataflows.lookup_rows import looked_in
from dataflows.lookups import Lookups
from dataflows.records import judged_records
from dataflows.versions import Versions
from journal.batch import ChangeBatch, CopyMarker, Op, Presence, batch_from_columns
from journal.local import JournalWriter
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError
from pipeline.load import load_pipeline
from pipeline.model import JournalConfig, Pipeline
from quality.gate import Gate
from tests.contract_text import contract_of

_PIPELINE = """\
pipeline: shop
state: state
sources:
  shop: {type: postgres, dsn: "postgresql://localhost:1/x", tables: [public.orders, public.customers]}
datasets:
  orders: {from: shop.public.orders, contract: orders.yaml}
lookups:
  customers: {source: shop.public.customers, key: [id]}
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb}
"""
_CONTRACT = """\
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: status, logicalType: string, quality: [{id: known, metric: invalidValues, arguments: {pattern: '^[a-z]*$'}, mustBe: 0}]}
      - {name: owner, logicalType: string}
      - {name: n, logicalType: integer}
    quality:
      - id: steps
        type: custom
        engine: sluice
        implementation: {type: transition, column: status, allowed: [{from: a, to: b}, {from: b, to: [c, d]}]}
      - {id: stays, type: custom, engine: sluice, implementation: {type: immutable, column: owner}}
"""
ORDERS = TableSchema(
    "orders", (Column("id", "bigint", 1), Column("status", "text", 2), Column("owner", "text", 3), Column("n", "bigint", 4)), ("id",)
)
CUSTOMERS = TableSchema("customers", (Column("id", "bigint", 1),), ("id",))
PUT, U, D, T, R = Op.INSERT, Op.UPDATE, Op.DELETE, Op.TRUNCATE, Op.READ

Event = tuple[Op, str | None, str | None, str | None]  # operation, key, status, owner


class Place:
    """A judge beside a journal; what is in memory can be lost."""

    def __init__(self, folder: Path, pipeline: str = _PIPELINE, contract: str = _CONTRACT) -> None:
        (folder / "pipeline.yaml").write_text(pipeline)
        (folder / "orders.yaml").write_text(contract_of(contract))
        self.pipeline: Pipeline = load_pipeline(folder / "pipeline.yaml")
        self.pipeline.state.mkdir(exist_ok=True)
        self.rules = contracts(self.pipeline)
        self.journal = JournalWriter.open(self.pipeline.state, "shop", JournalConfig(10**9))
        self.next = 1
        self.lose()

    def lose(self) -> None:
        """As after a crash: what is known then is what the journal has."""
        versions = Versions(self.pipeline)
        self.lookups = Lookups(self.pipeline)
        self.earlier = EarlierValues(self.rules, versions)
        self.earlier.load(self.journal.lookups)
        versions.load(self.journal.lookups)
        self.versions = versions
        contract = self.rules["orders"]
        self.judge = Judge(
            self.next,
            lambda schema: Gate(contract, schema, self.earlier, looked_in(self.lookups)),
            partial(judged_records, "j" * 12, lambda batch, row: "0/1", "owner@example.com"),
            versions=versions,
            earlier=self.earlier,
        )

    def send(
        self, *events: Event, old: Sequence[Event | None] = (), sink: str | None = None, absent: Sequence[int] = ()
    ) -> list[list[str]]:
        """The rules that each event breaks. What is remembered is in the journal then. `absent`: events whose status was not in the log."""
        return self.give(replace(batch_of(events, old, absent), sink=sink))

    def give(self, batch: ChangeBatch) -> list[list[str]]:
        first = self.next
        judged = self.judge.batch(batch)
        assert isinstance(judged, JudgedBatch)
        self.next += len(batch)
        if judged.earlier is not None:
            self.earlier.keep(judged.earlier, self.journal.lookups)
        if judged.versions is not None:
            self.versions.keep(judged.versions, self.journal.lookups)
        self.journal.commit("shop", "1")
        found: list[list[str]] = [[] for _ in range(len(batch))]
        for record in judged.records:
            found[record.ordinal - first] = [reason.rule for reason in record.reasons]
        self.told = [reason.message for record in judged.records for reason in record.reasons]
        self.passed = judged.passed.column("n").to_pylist()
        return found

    def mark(self, phase: str) -> None:
        marker = self.judge.entry(CopyMarker(ORDERS, "shop", "public.orders", phase, 0))
        assert isinstance(marker, CopyMarker)
        self.earlier.keep_mark(marker, self.journal.lookups)
        self.journal.commit("shop", "1")


def batch_of(
    events: Sequence[Event], old: Sequence[Event | None] = (), absent: Sequence[int] = (), schema: TableSchema = ORDERS
) -> ChangeBatch:
    columns = [
        [key for _, key, _, _ in events],
        [s for _, _, s, _ in events],
        [o for _, _, _, o in events],
        [str(i) for i in range(len(events))],
    ]
    made = batch_from_columns(
        schema, [pa.array(column, pa.string()) for column in columns], Op.INSERT, source="shop", table="public.orders"
    )
    presence = {1: np.array([Presence.ABSENT if i in absent else 0 for i in range(len(events))], np.uint8)} if absent else {}
    made = replace(made, op=np.array([op for op, *_ in events], np.uint8), presence=presence)
    if not old:
        return made
    olds = [*old, *[None] * (len(events) - len(old))]
    before = {c: pa.array([None if one is None else one[c + 1] for one in olds], pa.string()) for c in range(3)}
    return replace(made, old=before, has_old=np.array([one is not None for one in olds]))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.journal.close()


def test_a_change_is_compared_with_the_value_that_passed_last_for_its_key(place: Place) -> None:
    assert place.send((PUT, "1", "a", "x"), (PUT, "2", "d", "x")) == [[], []]
    assert place.send((U, "1", "c", "x"), (U, "2", "d", "x")) == [["steps"], []]
    assert place.send((U, "1", "b", "y")) == [["stays"]], "c was held back, so that a is what was before"
    assert place.send((U, "1", "b", "x"), (U, "1", "c", "x"), (U, "1", "a", "x")) == [[], [], ["steps"]]
    assert place.told == ["the value stays, or goes a → b, b → c, b → d (it was c)"]
    assert place.send((PUT, "2", "a", "x")) == [["steps"]], "an insert of a row that there is is a change of it"


def test_what_passed_last_is_known_again_after_a_crash(place: Place) -> None:
    place.send((PUT, "1", "a", "x"), (PUT, "2", "b", "x"))
    place.send((U, "1", "b", "x"))
    place.lose()
    assert place.send((U, "1", "a", "x"), (U, "2", "c", "z")) == [["steps"], ["stays"]]
    place.lose()
    assert place.send((U, "1", "d", "x"), (U, "2", "c", "x")) == [[], []]


def test_what_was_never_committed_is_not_known_after_a_crash(place: Place) -> None:
    place.send((PUT, "1", "a", "x"))
    judged = place.judge.batch(batch_of([(U, "1", "b", "x")]))
    assert isinstance(judged, JudgedBatch)
    assert judged.earlier is not None
    place.earlier.keep(judged.earlier, place.journal.lookups)
    place.journal.rollback()
    place.lose()
    assert place.send((U, "1", "c", "x"), (U, "1", "b", "x")) == [["steps"], []], "the source sends it again"


def test_what_stays_as_it_was_is_not_written_again(place: Place) -> None:
    place.send((PUT, "1", "a", "x"), (PUT, "2", "b", None))
    kept = place.journal.lookups.rows("earlier:orders")
    place.send((U, "1", "a", "x"), (U, "2", "b", None), (U, "3", "a", None))
    assert place.journal.lookups.rows("earlier:orders") == kept + 1
    assert place.send((U, "2", "b", "y"), (U, "2", "c", "y"), (U, "2", "b", "y")) == [[], [], ["steps"]]
    place.lose()
    assert place.send((U, "2", "a", "z"), (U, "3", "c", "z")) == [["steps", "stays"], ["steps"]]


def test_a_row_that_breaks_another_rule_is_no_step_and_one_with_a_warning_is(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.send((PUT, "1", "a", "x"), (U, "1", "B", "x"))
    assert place.send((U, "1", "b", "x")) == [[]]
    place.journal.close()
    warned = Place(
        tmp_path, contract=_CONTRACT.replace("column: owner}}", "column: owner}, customProperties: [{property: action, value: warn}]}")
    )
    assert warned.send((PUT, "9", "a", "x"), (U, "9", "a", "y"), (U, "9", "c", "y")) == [[], [], ["steps"]]


def test_a_delete_and_a_truncate_forget_and_a_new_key_remembers(place: Place) -> None:
    place.send((PUT, "1", "b", "x"), (PUT, "2", "b", "x"), (PUT, "3", "b", "x"), (PUT, "4", "b", "x"))
    place.send((D, "1", None, None), (PUT, "1", None, "y"), (U, "1", "a", "y"))
    assert place.send((U, "1", "c", "y")) == [["steps"]], "what the row was before its end counts no more"
    place.send((U, "9", "b", "x"), old=[(U, "2", None, None)])
    place.lose()
    assert place.send((U, "9", "a", "x"), (PUT, "2", "a", "z"), (U, "3", "a", "x")) == [["steps"], [], ["steps"]]
    moved = place.send((U, "8", "a", "x"), (U, "8", "c", "x"), old=[(U, "9", "b", "x")])
    assert moved == [["steps"], []], "a row that is held back under its new key is still what it was under the old one"
    assert place.send((T, None, None, None), (PUT, "3", "a", "z"), (U, "3", "c", "z")) == [[], [], ["steps"]]
    place.lose()
    assert place.send((PUT, "4", "a", "z"), (U, "3", "c", "z")) == [[], ["steps"]]


def test_a_copied_row_is_what_it_is_and_what_a_copy_lacks_is_forgotten(place: Place) -> None:
    place.send((PUT, "1", "d", "x"), (PUT, "2", "d", "x"))
    place.mark("start")
    assert place.send((R, "1", "a", "y")) == [[]]
    place.mark("end")
    place.lose()
    assert place.send((U, "1", "b", "y"), (U, "1", "b", "x"), (PUT, "2", "a", "z")) == [[], ["stays"], []]


def test_a_copy_for_one_sink_is_compared_with_nothing_and_not_remembered(place: Place) -> None:
    place.send((PUT, "1", "b", "x"))
    assert place.send((R, "1", "a", "y"), sink="warehouse") == [[]]
    assert place.send((U, "1", "a", "x")) == [["steps"]]


def test_where_nothing_is_remembered_the_old_row_of_the_log_counts(place: Place) -> None:
    assert place.send((U, "1", "a", "y"), old=[(U, "1", "b", "x")]) == [["steps", "stays"]]
    assert place.send((U, "2", "c", None), old=[(U, "2", "b", None)]) == [[]]


def test_a_value_that_the_log_left_out_and_a_null_leave_what_was_before(place: Place) -> None:
    place.send((PUT, "1", "b", "x"))
    assert place.send((U, "1", None, "x"), absent=[0]) == [[]]
    assert place.send((U, "1", None, "x")) == [[]]
    place.lose()
    assert place.send((U, "1", "a", "x"), (U, "1", "c", None)) == [["steps"], ["stays"]]


def test_keys_that_are_none_are_no_rows(place: Place) -> None:
    assert place.send((PUT, "seven", "d", "x"), (PUT, None, "d", "x"), (PUT, "1", "d", "x")) != []
    place.lose()
    assert place.send((U, "1", "a", "x"), (U, "8", "a", "x"))[0] == ["steps"]


def test_a_table_without_a_key_has_no_earlier_values(place: Place) -> None:
    with pytest.raises(ConfigError, match="orders has no key"):
        Gate(place.rules["orders"], replace(ORDERS, key=()), place.earlier)


def test_what_a_confidential_value_was_before_is_not_told(tmp_path: Path) -> None:
    place = Place(tmp_path, contract=_CONTRACT.replace("name: owner,", "name: owner, classification: confidential,"))
    assert place.send((PUT, "1", "a", "ann@example.com"), (U, "1", "a", "bo@example.com")) == [[], ["stays"]]
    assert place.told == ["a value that has been set stays"]


def test_a_gate_without_a_memory_compares_nothing(place: Place) -> None:
    gate = Gate(place.rules["orders"], ORDERS)
    assert gate.judge(batch_of([(PUT, "1", "a", "x"), (U, "1", "d", "y")])).passed.all()


def test_another_key_or_column_begins_anew_what_cannot_be_known(place: Place) -> None:
    place.send((PUT, "1", "b", "x"))
    other = TableSchema(
        "orders",
        (Column("id", "bigint", 1), Column("status", "text", 2), Column("owner", "text", 3), Column("n", "bigint", 4)),
        ("id", "n"),
    )
    assert place.give(batch_of([(PUT, "1", "a", "y")], schema=other)) == [[]]
    place.lose()
    assert place.give(batch_of([(U, "1", "d", "y")], schema=other)) == [["steps"]]


def test_a_rule_meant_for_inserts_judges_no_updates(tmp_path: Path) -> None:
    place = Place(
        tmp_path, contract=_CONTRACT.replace("column: owner}}", "column: owner}, customProperties: [{property: on, value: [insert]}]}")
    )
    assert place.send((PUT, "1", "a", "x"), (U, "1", "a", "y"), (PUT, "1", "a", "z")) == [[], [], ["stays"]]


def test_a_row_behind_a_newer_version_is_late_and_breaks_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, _PIPELINE.replace("contract: orders.yaml", "contract: orders.yaml, order_by: n"))

    def send(*events: tuple[str, str]) -> tuple[list[list[str]], list[str]]:
        batch = batch_of([(PUT, "1", status, "x") for _, status in events])
        batch = replace(batch, columns=(*batch.columns[:3], pa.array([version for version, _ in events])))
        found = place.give(batch)
        return found, place.passed

    assert send(("5", "b")) == ([[]], ["5"])
    assert send(("3", "a"), ("6", "c")) == ([[], []], ["6"]), "a at 3 is older than b at 5, and c follows b"
    place.lose()
    assert send(("9", "a"), ("7", "c"), ("8", "b")) == ([["steps"], [], ["steps"]], ["7"]), "held back at 9 it makes nothing late"


def test_a_reference_is_looked_for_in_what_the_lookup_holds(tmp_path: Path) -> None:
    contract = (
        _CONTRACT + "      - {id: there, type: custom, engine: sluice, implementation: {type: references, column: n, lookup: customers}}\n"
    )
    place = Place(tmp_path, contract=contract)
    assert place.send((PUT, "1", "a", "x")) == [["there"]], "nothing is there yet"
    place.lookups.tables["customers"].take(batch_from_columns(CUSTOMERS, [pa.array(["0", "2"])], Op.INSERT))
    assert place.send((PUT, "1", "a", "x"), (PUT, "2", "a", "x"), (PUT, "3", "a", "x")) == [[], ["there"], []]
    with pytest.raises(ConfigError, match="there is no lookup 'customer'"):
        Place(tmp_path, contract=contract.replace("lookup: customers", "lookup: customer"))
    named = TableSchema("customers", (Column("id", "text", 1),), ("id",))
    place.lookups.tables["customers"].know(named)
    with pytest.raises(ConfigError, match="cannot be compared"):
        Gate(place.rules["orders"], ORDERS, None, looked_in(place.lookups))


@pytest.mark.parametrize("together", [True, False])
def test_a_change_of_a_key_that_is_held_back_leaves_the_row_what_it_was_wherever_batches_end(place: Place, together: bool) -> None:
    def send(*events: Event, old: Sequence[Event | None] = ()) -> list[list[str]]:
        if together:
            return place.send(*events, old=old)
        olds = [*old, *[None] * len(events)]
        return [found for event, was in zip(events, olds, strict=False) for found in place.send(event, old=[was] if was else ())]

    place.send((PUT, "1", "b", "x"), (PUT, "3", "b", "x"))
    assert send((U, "2", "a", "x"), (PUT, "1", "a", "x"), (U, "2", "d", "y"), old=[(U, "1", None, None)]) == [["steps"], ["steps"], []]
    moves = [(U, "3", None, None), (U, "4", None, None)]
    found = send((U, "4", "a", "x"), (U, "5", "a", "x"), (U, "3", "d", "x"), (U, "5", "c", "x"), old=moves)
    assert found == [["steps"], [], [], ["steps"]], "of what is under 4, 5 knows nothing"


@pytest.mark.parametrize("together", [True, False])
def test_where_only_nulls_have_passed_the_old_row_of_the_log_counts_wherever_batches_end(place: Place, together: bool) -> None:
    events: list[Event] = [(PUT, "1", None, None), (U, "1", "B", None), (U, "1", "a", "x"), (U, "1", "c", "x")]
    olds: list[Event | None] = [None, None, (U, "1", "b", None), (U, "1", "a", "x")]
    if together:
        found = place.send(*events, old=olds)
    else:
        found = [place.send(one, old=[old] if old else ())[0] for one, old in zip(events, olds, strict=True)]
    assert found == [[], ["known"], ["steps"], ["steps"]]
