"""What the journal writes down is what it gives back."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from journal.batch import ChangeBatch, Defect, Op, Presence
from journal.codec import Row, Stream, decode, encode
from journal.joining import join
from journal.schema import Column, TableSchema
from tests.journal_cases import ORDERS, SOURCE, assert_same, changes, table_of

_texts = st.none() | st.text(max_size=12) | st.sampled_from(["", "\x00", "é 漢字 🙂", "x" * 300])


@st.composite
def batches(draw: st.DrawFn, schema: TableSchema = ORDERS) -> ChangeBatch:
    """Any batch: numbers near and far apart, absent and recalled values, old rows, and slices of larger arrays."""
    n = draw(st.integers(1, 40))
    longs = st.sampled_from([st.integers(0, 255), st.integers(0, 70_000), st.integers(0, 1 << 40), st.integers(-(1 << 63), (1 << 63) - 1)])

    def numbers() -> np.ndarray:
        kind = draw(st.sampled_from(["constant", "range", "any"]))
        if kind == "constant":
            return np.full(n, draw(st.integers(-(1 << 63), (1 << 63) - 1)), np.int64)
        if kind == "range":
            return np.arange(n, dtype=np.int64) + draw(st.integers(0, 1 << 62))
        return draw(hnp.arrays(np.int64, n, elements=draw(longs)))

    def column() -> pa.StringArray:
        before = draw(st.integers(0, 3))
        values = draw(st.lists(_texts, min_size=before + n, max_size=before + n + 2))
        return pa.array(values, pa.string()).slice(before, n)

    some = st.sets(st.sampled_from(range(len(schema.columns))))
    has_old = draw(st.booleans())
    return ChangeBatch(
        schema=schema,
        source=SOURCE,
        table=table_of(schema),
        op=draw(hnp.arrays(np.uint8, n, elements=st.sampled_from([int(op) for op in Op]))),
        lsn=numbers(),
        nth=numbers(),
        time=numbers(),
        ordinal=np.cumsum(draw(hnp.arrays(np.int64, n, elements=st.integers(1, draw(st.sampled_from([1, 3, 1 << 40])))))),
        columns=tuple(column() for _ in schema.columns),
        presence={c: draw(hnp.arrays(np.uint8, n, elements=st.sampled_from([int(p) for p in Presence]))) for c in draw(some)},
        old={c: column() for c in draw(some)} if has_old else {},
        has_old=draw(hnp.arrays(np.bool_, n)) if has_old else None,
        sink=draw(st.none() | st.just("out")),
        traces=column() if draw(st.booleans()) else None,
    )


def stream_of(batch: ChangeBatch) -> Stream:
    return Stream(batch.source, batch.table, batch.sink, batch.schema)


@given(batches())
def test_a_batch_comes_back_as_it_was(batch: ChangeBatch) -> None:
    assert_same(decode([encode(batch)], stream_of(batch)), batch)


@settings(max_examples=50)
@given(st.lists(batches(), min_size=2, max_size=4))
def test_batches_that_are_read_together_are_their_rows_in_order(given_batches: list[ChangeBatch]) -> None:
    parts = [replace(batch, sink=None) for batch in given_batches]
    found = decode([encode(part) for part in parts], stream_of(parts[0]))
    assert_same(found, join(parts))
    at = 0
    for part in parts:
        assert_same_rows(found.slice(at, at + len(part)), part)
        at += len(part)


def assert_same_rows(found: ChangeBatch, meant: ChangeBatch) -> None:
    """The same changes, whichever columns the batch around them made it carry."""
    for name in ("op", "lsn", "nth", "time", "ordinal"):
        assert (getattr(found, name) == getattr(meant, name)).all()
    assert [column.to_pylist() for column in found.columns] == [column.to_pylist() for column in meant.columns]
    nulls = pa.nulls(len(meant), pa.string())
    for column in range(len(meant.columns)):
        zeros = np.zeros(len(meant), np.uint8)
        assert (found.presence.get(column, zeros) == meant.presence.get(column, zeros)).all()
        assert found.old.get(column, nulls).to_pylist() == meant.old.get(column, nulls).to_pylist()
    assert (nulls if found.traces is None else found.traces).to_pylist() == (nulls if meant.traces is None else meant.traces).to_pylist()
    no = np.zeros(len(meant), np.bool_)
    assert ((no if found.has_old is None else found.has_old) == (no if meant.has_old is None else meant.has_old)).all()


# what the first format wrote for `changes(5, 2)` with an old value
_FIRST = (
    "c-os)*?E(JiIJI+k%55`2pKpS7+x?lF#HFC4j@;A0Rng!#2DBZSb@?!KnMiPEDRDrs(}FpxPW{f1{R<SE+Fp@5DNe?69WS9G2jL~P+9;=!}Lj@sgpocuYtz5"
    "KvQplChvh}PXv@^gwhFU>I<MWGnB4CGrt1Oy&%Af#%Cab&xk`FCI=HYHA9HAA-Oj%za&+`6imWZa3J|NF*m<7uSCHVN}Dkvna_;m&+^1#6!!oC_G=l*"
)


def test_what_was_written_before_there_were_traces_is_read_and_still_written_so() -> None:
    batch = replace(changes(5, 2), has_old=np.array([True, False]), old={1: pa.array(["was", None])})
    written = Row(2, 73, 40, 0, 5000, 5, zlib.decompress(base64.b85decode(_FIRST)))
    assert_same(decode([written], stream_of(batch)), batch)
    assert encode(batch) == written
    traced = replace(batch, traces=pa.array(["a trace", None]))
    both = decode([written, encode(traced)], stream_of(batch))
    assert both.traces is not None
    assert both.traces.to_pylist() == [None, None, "a trace", None]


def test_a_table_without_columns_comes_back() -> None:
    batch = changes(5, 3, schema=TableSchema("nothing", (Column("id", "integer"),)))
    batch = replace(batch, schema=TableSchema("nothing", ()), columns=())
    assert_same(decode([encode(batch)], stream_of(batch)), batch)


def test_1600_columns_come_back() -> None:
    schema = TableSchema("wide", tuple(Column(f"c{i}", "text") for i in range(1600)), ("c0",))
    batch = changes(1, 2, schema=schema)
    batch = replace(
        batch,
        presence={i: np.array([0, 1], np.uint8) for i in range(0, 1600, 3)},
        old={1599: pa.array(["a", None])},
        has_old=np.array([True, False]),
    )
    assert_same(decode([encode(batch)], stream_of(batch)), batch)


def test_a_value_of_a_hundred_megabytes_comes_back() -> None:
    batch = changes(1, 1)
    batch = replace(batch, columns=(*batch.columns[:2], pa.array(["x" * 100_000_000])))
    found = decode([encode(batch)], stream_of(batch))
    assert found.columns[2].equals(batch.columns[2])


def test_columns_that_are_views_of_a_large_buffer_take_their_own_room_only() -> None:
    large = changes(1, 100_000)
    assert len(encode(large.slice(500, 510)).payload) < 2_000


def test_positions_take_few_bytes() -> None:
    batch = changes(1, 10_000)
    values = sum(column.nbytes for column in batch.columns)
    assert len(encode(batch).payload) < values + 9 * len(batch)


def test_rows_with_defects_are_refused() -> None:
    with pytest.raises(ValueError, match="defective"):
        encode(replace(changes(1, 2), defects=(Defect(1, "note", "not UTF-8", b"\xff"),)))


def test_a_row_that_is_not_as_it_was_written_is_not_decoded() -> None:
    row = encode(changes(1, 200))
    stream = Stream("portal", "public.orders", None, ORDERS)
    flipped = bytearray(row.payload)
    flipped[-100] ^= 1
    for wrong in ({"payload": row.payload[:300]}, {"payload": bytes(flipped)}, {"lsn": row.lsn + 1}, {"rows": 199}):
        with pytest.raises(ValueError, match="checksum"):
            decode([row._replace(**wrong)], stream)


def test_decoding_does_not_copy_the_values() -> None:
    batch = replace(changes(1, 1000), columns=tuple(pa.array(["x" * 10_000] * 1000) for _ in range(3)))
    row = encode(batch)
    before = pa.total_allocated_bytes()
    found = decode([row], stream_of(batch))
    assert pa.total_allocated_bytes() - before < 100_000
    assert found.columns[0][999].as_py() == "x" * 10_000


@given(batches(), st.integers(0, 40), st.integers(0, 40))
def test_a_slice_of_a_batch_comes_back(batch: ChangeBatch, one: int, other: int) -> None:
    start, stop = sorted((one % (len(batch) + 1), other % (len(batch) + 1)))
    part = batch.slice(start, stop)
    if len(part):
        assert_same(decode([encode(part)], stream_of(part)), part)


def test_every_operation_has_its_letter() -> None:
    batch = replace(changes(1, 5), op=np.array(list(Op), np.uint8))
    assert [Op(int(op)) for op in decode([encode(batch)], stream_of(batch)).op] == list(Op)
