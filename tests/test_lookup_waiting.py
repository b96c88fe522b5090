"""Rows that a lookup has nothing for: null, quarantined, or kept until it has; in order, once, whatever is killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import dataflows.waiting
from journal.batch import Op, Payload, Payloads
from journal.local import JournalReader
from journal.quarantine import Wanted
from journal.schema import Column
from pipeline.load import load_pipeline
from tests.lookup_place import ENRICH, ORDERS, PRODUCTS, LookupPlace, copied, marker, moved, orders, products

Make = Callable[..., LookupPlace]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[LookupPlace] = []

    def place(on_missing: str = "wait") -> LookupPlace:
        made.append(LookupPlace(tmp_path, on_missing))
        return made[-1]

    yield place
    for one in made:
        one.close()


PEN, CUP = ("1", "pen", "1.50"), ("2", "cup", "2.00")


def test_a_row_is_enriched_as_of_its_arrival(make: Make) -> None:
    place = make("null")
    place.send(*copied(PEN))
    place.send(orders(("10", "1", "2")), products(("1", "quill", "3.00"), op=Op.UPDATE), orders(("11", "1", "1"), ("12", "2", "1")))
    place.send(products(("1", None, None), op=Op.DELETE), orders(("13", "1", "1")))
    place.lose()
    place.send(products(CUP), orders(("12", "2", "3"), op=Op.UPDATE), orders(("10", None, None), op=Op.DELETE))
    assert place.delivered() == [
        ("insert", ("10", "1", "2", "pen", "3.00")),
        ("insert", ("11", "1", "1", "quill", "3.00")),
        ("insert", ("12", "2", "1", None, None)),
        ("insert", ("13", "1", "1", None, None)),
        ("update", ("12", "2", "3", "cup", "6.00")),
        ("delete", ("10", None, None, None, None)),
    ]
    assert place.counts() == (6, 0, 0)


def test_a_row_without_its_row_goes_to_quarantine_and_its_neighbours_pass(make: Make) -> None:
    place = make("quarantine")
    place.send(*copied(PEN))
    place.send(orders(("10", "1", "2"), ("11", "7", "1"), ("12", None, "1")))
    assert [row[0] for _, row in place.delivered()] == ["10", "12"]
    assert place.quarantined() == [("11", "lookup:products")]
    assert place.counts() == (3, 1, 0)


def test_a_row_waits_and_is_let_go_when_the_lookup_has_it(make: Make) -> None:
    place = make()
    place.send(*copied(PEN))
    place.send(orders(("10", "2", "2"), ("11", "1", "1")))
    assert [row[0] for _, row in place.delivered()] == ["11"]
    assert place.counts() == (1, 0, 1)
    place.send(products(CUP))
    assert place.delivered()[1:] == [("insert", ("10", "2", "2", "cup", "4.00"))]
    assert place.counts() == (2, 0, 0)
    place.send(products(("2", "mug", "2.00"), op=Op.UPDATE))
    assert len(place.delivered()) == 2


def test_what_follows_under_a_key_that_waits_comes_behind_it(make: Make) -> None:
    place = make()
    place.send(*copied(PEN))
    place.send(orders(("10", "2", "1")), orders(("10", "1", "1"), op=Op.UPDATE))
    place.send(moved(("20", "1", "2"), "10"), orders(("10", "1", "9")), orders(("30", "1", "1")))
    place.send(orders(("20", None, None), op=Op.DELETE))
    assert [row[0] for _, row in place.delivered()] == ["30"]
    place.lose()
    place.send(products(CUP))
    assert [(op, *row[:3], row[3]) for op, row in place.delivered()[1:]] == [
        ("insert", "10", "2", "1", "cup"),
        ("update", "10", "1", "1", "pen"),
        ("update", "20", "1", "2", "pen"),
        ("insert", "10", "1", "9", "pen"),
        ("delete", "20", None, None, None),
    ]
    assert place.counts() == (6, 0, 0)


def test_a_row_that_waited_too_long_goes_to_quarantine_and_what_follows_it_goes_on(make: Make) -> None:
    place = make()
    place.send(*copied(PEN))
    place.send(orders(("10", "2", "1"), ("11", "3", "1")))
    place.wait(40)
    place.send(orders(("10", "1", "5"), op=Op.UPDATE), orders(("12", "3", "1")))
    place.lose()
    place.wait(0)
    assert place.delivered() == []
    place.wait(30)
    assert place.quarantined() == [("10", "lookup:products"), ("11", "lookup:products")]
    assert place.delivered() == [("update", ("10", "1", "5", "pen", "7.50"))]
    assert place.counts() == (3, 2, 1)
    place.wait(40)
    assert place.quarantined()[2:] == [("12", "lookup:products")]
    assert place.counts() == (4, 3, 0)


def test_what_is_lost_before_the_commit_comes_again_and_counts_once(make: Make) -> None:
    place = make()
    place.send(*copied(PEN))
    place.send(orders(("10", "2", "1")))
    place.send(products(CUP), orders(("11", "2", "1")), whole=False)
    place.lose()
    assert place.delivered() == []
    assert place.counts() == (0, 0, 1)
    place.send(products(CUP), orders(("11", "2", "1")))
    assert sorted(row[:4] for _, row in place.delivered()) == [("10", "2", "1", "cup"), ("11", "2", "1", "cup")]
    assert place.counts() == (2, 0, 0)


def test_the_message_of_a_row_that_waited_is_in_quarantine_with_it(make: Make) -> None:
    place = make()
    place.send(*copied(PEN))
    messages = [Payload(b"k%d" % n, None if n == 1 else b"\xff%d" % n, [("h", b"\x00")]) for n in range(4)]
    batch = orders(("10", "1", "1"), ("11", "2", "1"), ("12", "3", "1"), ("13", "2", "1"))
    place.send(replace(batch, payloads=Payloads(messages, np.arange(4))))
    place.send(replace(orders(("14", "4", "1")), payloads=Payloads(messages, np.array([0]))))
    place.lose()
    place.send(products(("3", "ink", "1.00")))
    place.wait(70)
    with closing(JournalReader.open(place.pipeline.state, "shop")) as reader:
        found = {record.key["id"]: json.loads(record.message or "null") for record in reader.quarantined(Wanted())}
    assert found == {
        "11": {"key": "azE=", "value": None, "headers": [["h", "AA=="]]},
        "13": {"key": "azM=", "value": "/zM=", "headers": [["h", "AA=="]]},
        "14": {"key": "azA=", "value": "/zA=", "headers": [["h", "AA=="]]},
    }
    assert place.counts() == (5, 3, 0)


def test_a_truncate_and_a_new_copy_end_the_wait(make: Make) -> None:
    place = make()
    place.send(*copied(PEN))
    place.send(orders(("10", "2", "1")))
    place.send(orders((None, None, None), op=Op.TRUNCATE), orders(("11", "2", "1")))
    assert place.quarantined() == [("10", "lookup")]
    assert [op for op, _ in place.delivered()] == ["truncate"]
    place.send(marker(ORDERS, "start"), orders(("11", "2", "4"), ("12", "1", "1"), op=Op.READ), marker(ORDERS, "end"))
    place.send(products(CUP))
    assert [(op, *row[:3]) for op, row in place.delivered()[1:]] == [("read", "12", "1", "1"), ("read", "11", "2", "4")]
    assert place.counts() == (4, 1, 0)


def test_of_very_many_rows_the_oldest_do_not_wait_to_the_end(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataflows.waiting, "MOST_ROWS", 3)
    place = make()
    place.send(*copied(PEN))
    place.send(orders(*((str(n), "2", "1") for n in range(5))))
    assert place.quarantined() == [("0", "lookup:products"), ("1", "lookup:products")]
    assert place.counts() == (2, 2, 3)


def test_a_copy_for_one_sink_waits_for_nothing_and_what_it_lacks_is_in_quarantine(make: Make) -> None:
    place = make()
    place.send(*copied(PEN))
    place.send(orders(("12", "2", "1")))
    place.send(replace(orders(("10", "2", "1"), ("11", "1", "1"), ("12", "2", "1"), op=Op.READ), sink="warehouse"))
    assert [row[0] for _, row in place.delivered()] == ["11"]
    assert place.quarantined() == [("10", "lookup:products")]
    with closing(JournalReader.open(place.pipeline.state, "shop")) as reader:
        (record,) = reader.quarantined(Wanted())
    assert record.reasons[0].message == "the lookup products has no row for it; the copy for the sink warehouse is without it"
    assert place.counts() == (0, 0, 1)
    place.lose()
    place.send(replace(orders(("10", "2", "1"), ("13", "3", "1"), op=Op.READ), sink="warehouse"))
    assert [key for key, _ in place.quarantined()] == ["10", "13"]
    place.lose()
    place.send(orders(("14", "1", "1")))  # its place is another one
    place.send(products(CUP))
    assert [row[0] for _, row in place.delivered()] == ["11", "14", "12"]


def test_what_is_kept_of_a_lookup_is_laid_down_anew_when_most_of_it_is_overtaken(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataflows.lookups._SPARE", 10)
    place = make("null")
    place.send(*copied(PEN, CUP))
    for n in range(30):
        place.send(products(("1", f"pen {n}", "1.00"), op=Op.UPDATE))
        assert place.journal.lookups.rows("products") <= 2 * 2 + 10
    place.lose()
    assert len(place.lookups.tables["products"]) == 2
    assert place.lookups.tables["products"].whole
    place.send(orders(("10", "1", "1"), ("11", "2", "1")))
    assert [row[3] for _, row in place.delivered()] == ["pen 29", "cup"]


def test_a_lookup_that_is_new_is_copied_and_one_that_is_gone_forgotten(make: Make) -> None:
    place = make("null")
    place.send(*copied(PEN))
    assert place.lookups.unmade("shop", {"public.products"}) == []
    file = place.folder / "pipeline.yaml"
    file.write_text(file.read_text().replace("products: {", "goods: {"))
    (place.folder / "enrich.sql").write_text(ENRICH.replace("products AS p", "goods AS p"))
    place.close()
    place.pipeline = load_pipeline(file)
    place.start()
    assert place.lookups.unmade("shop", {"public.products"}) == ["public.products"]
    assert place.lookups.unmade("shop", frozenset()) == []
    assert place.journal.lookups.rows("products") == 0
    place.send(*copied(PEN))
    place.send(orders(("10", "1", "1")))
    assert [row[3] for _, row in place.delivered()] == ["pen"]


def test_a_source_that_begins_anew_brings_its_lookups_again(make: Make) -> None:
    place = make()
    place.send(*copied(PEN, CUP))
    place.send(orders(("10", "3", "1")))
    place.journal.start_over("shop", {"public.orders": ORDERS, "public.products": PRODUCTS}, 0)
    place.lose()
    assert [place.lookups.tables["products"].whole] == [False]
    assert place.counts()[2] == 0
    place.send(marker(PRODUCTS, "start"), products(("1", "quill", "2.00"), op=Op.READ), marker(PRODUCTS, "end"))
    assert [place.lookups.tables["products"].whole] == [True]
    place.send(orders(("11", "1", "1"), ("12", "2", "1")))
    assert [row[3] for _, row in place.delivered()] == ["quill"]


def test_a_lookup_with_other_columns_goes_on(make: Make) -> None:
    place = make("null")
    place.send(*copied(PEN))
    wider = replace(PRODUCTS, columns=(*PRODUCTS.columns, Column("weight", "integer", 4)))
    batch = products(CUP)
    place.send(replace(batch, schema=wider, columns=(*batch.columns, pa.array(["5"]))))
    place.send(orders(("10", "1", "1"), ("11", "2", "1")))
    place.lose()
    place.send(orders(("12", "2", "1")))
    assert [row[3] for _, row in place.delivered()] == ["pen", "cup", "cup"]


def test_a_lookup_whose_rows_are_identified_otherwise_stops_its_table_alone(make: Make) -> None:
    place = make("null")
    place.send(*copied(PEN))
    other = replace(PRODUCTS, key=("name",))
    batch = products(CUP)
    place.send(replace(batch, schema=other), orders(("10", "1", "1")))
    assert "identified by name" in place.judge.stopped_tables["shop", "public.products"]
    assert [row[3] for _, row in place.delivered()] == ["pen"]
