"""Rows that carry their own version: the newest of a key stands, in whatever order they arrive, and through which source."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.versions import Versions, check_version
from journal.batch import ChangeBatch, Op, batch_from_columns
from journal.local import JournalWriter
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError
from pipeline.load import load_pipeline
from pipeline.model import Dataset, JournalConfig, Pipeline
from tests.invoking import sluice

_PIPELINE = """\
pipeline: shop
state: state
sources:
  shop: {type: postgres, dsn: "postgresql://localhost:1/x", tables: [public.orders]}
datasets:
  orders: {from: shop.public.orders, order_by: version}
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb}
"""
_COLUMNS = (Column("a", "bigint", 1), Column("version", "numeric", 2), Column("b", "text", 3), Column("n", "text", 4))
ORDERS = TableSchema("orders", _COLUMNS, ("b", "a"))

Event = tuple[Op, str, str | None]  # operation, key, version


class Place:
    """Versions beside a journal, which can be lost."""

    def __init__(self, folder: Path) -> None:
        (folder / "pipeline.yaml").write_text(_PIPELINE)
        self.pipeline: Pipeline = load_pipeline(folder / "pipeline.yaml")
        self.pipeline.state.mkdir(exist_ok=True)
        self.ordinal = 1
        self.lose()

    def lose(self) -> None:
        self.versions = Versions(self.pipeline)
        with closing(self._journal()) as journal:
            self.versions.load(journal.lookups)

    def _journal(self) -> JournalWriter:
        return JournalWriter.open(self.pipeline.state, "shop", JournalConfig(10**9))

    def send(self, *events: Event, sink: str | None = None) -> list[str | None]:
        """The `n` of the events that pass, which is each one's place among them; what is remembered is in the journal then."""
        sifted = self.versions.sift(replace(batch_of(events, self.ordinal), sink=sink))
        self.ordinal += len(events)
        if sifted.news is not None:
            with closing(self._journal()) as journal:
                self.versions.keep(sifted.news, journal.lookups)
                journal.commit("shop", "1")
        assert sifted.late == len(events) - len(sifted.passed)
        return list(sifted.passed.column("n").to_pylist())


def batch_of(events: Sequence[Event], first: int = 1) -> ChangeBatch:
    whole = [op != Op.TRUNCATE for op, _, _ in events]
    columns = [
        [key if kept else None for (_, key, _), kept in zip(events, whole, strict=True)],
        [version for _, _, version in events],
        ["x" if kept else None for kept in whole],
        [str(n) for n in range(len(events))],
    ]
    batch = batch_from_columns(ORDERS, [pa.array(column, pa.string()) for column in columns], Op.INSERT, source="shop", first=first)
    return replace(batch, op=np.array([op for op, _, _ in events], np.uint8))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_row_behind_a_newer_one_of_its_key_is_late(place: Place) -> None:
    put = Op.INSERT
    assert place.send((put, "1", "5"), (put, "1", "3"), (put, "2", "1"), (put, "1", "5.0"), (put, "1", "10")) == ["0", "2", "3", "4"]
    assert place.send((put, "1", "9.99"), (Op.UPDATE, "2", "0.5"), (Op.READ, "3", "0"), (put, "2", "1")) == ["2", "3"]
    place.lose()
    assert place.send((put, "1", "9"), (put, "1", "11"), (put, "2", "0.99")) == ["1"]


def test_deletes_and_rows_without_a_version_come_as_they_arrive(place: Place) -> None:
    put = Op.INSERT
    assert place.send((put, "1", "5"), (Op.DELETE, "1", "1"), (put, "1", "4"), (put, "1", None), (put, "1", "5")) == ["0", "1", "3", "4"]
    assert place.send((Op.TRUNCATE, "", None), (put, "1", "2"), (put, "1", "1")) == ["0", "1"]
    place.lose()
    assert place.send((put, "1", "1.5"), (put, "1", "3"), (Op.TRUNCATE, "", None), (put, "1", "0")) == ["1", "2", "3"]


def test_a_copy_for_one_sink_is_sifted_and_not_remembered(place: Place) -> None:
    assert place.send((Op.INSERT, "1", "5")) == ["0"]
    assert place.send((Op.READ, "1", "4"), (Op.READ, "1", "5"), (Op.READ, "2", "9"), sink="late") == ["1", "2"]
    assert place.send((Op.INSERT, "2", "1")) == ["0"]


def test_a_row_that_takes_another_key_is_late_behind_either(place: Place) -> None:
    place.send((Op.INSERT, "1", "5"), (Op.INSERT, "2", "1"))
    batch = batch_of([(Op.UPDATE, "2", "4"), (Op.UPDATE, "2", "6")], 10)
    moved = replace(batch, old={0: pa.array(["1", "1"]), 2: pa.array(["x", "x"])}, has_old=np.ones(2, np.bool_))
    assert place.versions.sift(moved).passed.column("n").to_pylist() == ["1"]
    assert place.send((Op.INSERT, "2", "5")) == []


_EVENT = st.tuples(
    st.sampled_from([Op.INSERT, Op.UPDATE, Op.READ, Op.DELETE]),
    st.sampled_from("123"),
    st.none() | st.sampled_from(["-1", "0", "2.5", "9"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.one_of(_EVENT, st.just((Op.TRUNCATE, "", None))), min_size=1, max_size=10), max_size=5))
def test_it_lets_through_what_a_dictionary_would(tmp_path_factory: pytest.TempPathFactory, batches: list[list[Event]]) -> None:
    place, newest = Place(tmp_path_factory.mktemp("versions")), dict[str, float]()
    for number, events in enumerate(batches):
        expected = []
        for n, (op, key, version) in enumerate(events):
            if op == Op.TRUNCATE:
                newest.clear()
            elif op != Op.DELETE and version is not None:
                if float(version) < newest.get(key, float(version)):
                    continue
                newest[key] = float(version)
            expected.append(str(n))
        assert place.send(*events) == expected
        if number % 2:
            place.lose()


def test_what_is_kept_is_laid_down_anew_when_most_of_it_is_overtaken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataflows.versions._SPARE", 10)
    for n in range(40):
        place.send((Op.INSERT, "1", str(n)))
    with closing(place._journal()) as journal:
        assert journal.lookups.rows("order_by:orders") <= 13
    place.lose()
    assert place.send((Op.INSERT, "1", "38"), (Op.INSERT, "1", "39")) == ["1"]


def test_what_has_no_order_is_refused() -> None:
    dataset = Dataset("orders", (), order_by="version")
    check_version(dataset, ORDERS)
    for schema, said in [
        (replace(ORDERS, key=()), "has no key"),
        (replace(ORDERS, columns=(*_COLUMNS[:1], *_COLUMNS[2:])), "no column `version`"),
        (replace(ORDERS, columns=(replace(_COLUMNS[1], type="jsonb"), *_COLUMNS[2:])), "has no order"),
        (replace(ORDERS, columns=(replace(_COLUMNS[1], type="bigint[]"), *_COLUMNS[2:])), "has no order"),
    ]:
        with pytest.raises(ConfigError, match=said):
            check_version(dataset, schema)


def test_check_tells_the_line(tmp_path: Path) -> None:
    text = """\
pipeline: shop
sources:
  drops: {type: files, path: drops, format: json, schema: {id: bigint, version: bigint}}
datasets:
  orders:
    from: drops
    key: [id]
    order_by: verzion
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb}
"""
    (tmp_path / "pipeline.yaml").write_text(text)
    done = sluice("check", str(tmp_path / "pipeline.yaml"))
    assert done.code == 1
    assert "pipeline.yaml:8: `order_by`: orders has no column `verzion`" in done.out
    assert "version" in done.out.splitlines()[1]
    (tmp_path / "pipeline.yaml").write_text(text.replace("verzion", "version"))
    assert sluice("check", str(tmp_path / "pipeline.yaml")).code == 0
