"""The columnar decoder against one that takes a message at a time, on random streams cut at random places."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import TerminalError
from sources.postgres import inbox
from tests import pgoutput_wire as wire
from tests.pgoutput_reference import BAD, Change, Reference
from tests.pgoutput_session import EMPTY, FULL, PLAIN, WIDER, Description, Received, Session, decode, describe


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers of a few messages, so that frames are cut, carried over, and larger than a buffer."""
    monkeypatch.setattr(inbox, "CAPACITY", 600)
    monkeypatch.setattr(inbox, "_TIGHT", 100)


LIKE_A_FRAME = wire.xlog(wire.insert(16384, [b"1", b"x", b"y"]))
ODD = [b"", LIKE_A_FRAME, LIKE_A_FRAME[:31], b"d\0\0\0\x1fw\0", b"d" * 8, wire.keepalive(1), b"\xff\xfe", b"\xc3", b"x" * 300]
VALUES = st.one_of(st.none(), st.text(max_size=12).map(str.encode), st.sampled_from(ODD))
MAYBE_UNCHANGED = st.one_of(VALUES, st.just(wire.UNCHANGED))
# A key is never null, and where it is not text it can't be judged here.
KEYS = st.text(max_size=6).map(str.encode)


@st.composite
def changes_of(draw: st.DrawFn, table: Description, xid: int | None) -> bytes:
    oid, _, identity, columns = table
    new = [draw(KEYS if key and identity == "d" else MAYBE_UNCHANGED) for _, key in columns]
    whole = [draw(VALUES) for _ in columns]
    only_key = [draw(KEYS) if key else None for _, key in columns]
    inserted = [None if value is wire.UNCHANGED else value for value in new]
    kinds = {
        "d": ["insert", "update", "update_key", "delete_key", "truncate"],
        "f": ["insert", "update_old", "delete_old"],
        "n": ["insert"],
    }
    kind = draw(st.sampled_from(kinds[identity]))
    if kind == "insert":
        return wire.insert(oid, inserted, xid)
    if kind == "update":
        return wire.update(oid, new, xid=xid)
    if kind == "update_key":
        return wire.update(oid, new, only_key, b"K", xid)
    if kind == "update_old":
        return wire.update(oid, new, whole, b"O", xid)
    if kind == "delete_key":
        return wire.delete(oid, only_key, b"K", xid)
    if kind == "delete_old":
        return wire.delete(oid, whole, b"O", xid)
    return wire.truncate([PLAIN[0], FULL[0]], draw(st.integers(0, 3)), xid)


@st.composite
def messages(draw: st.DrawFn, xid: int | None) -> list[bytes]:
    """Some changes, the table `plain` being redefined now and then; noise among them."""
    found = [describe(table, xid) for table in (PLAIN, FULL, EMPTY)]
    plain: Description = PLAIN
    for _ in range(draw(st.integers(0, 8))):
        what = draw(st.sampled_from(["change", "change", "change", "redefine", "noise"]))
        if what == "redefine":
            plain = WIDER if plain is PLAIN else draw(st.sampled_from([PLAIN, WIDER]))
            found.append(describe(plain, xid))
        elif what == "noise":
            found.append(draw(st.sampled_from([wire.type_message(99999, xid), wire.logical_message(b"hello", xid)])))
        else:
            found.append(draw(changes_of(draw(st.sampled_from([plain, plain, FULL, EMPTY])), xid)))
    return found


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Transactions, plain ones between the blocks of streamed ones, some of which are rolled back in part or whole."""
    lsn = draw(st.sampled_from([100, 0x6400, 0x7700_0000, 1 << 33, 1 << 57]))
    out: list[bytes] = []
    streaming: set[int] = set()
    xids = iter(range(700, 10_000))

    def send(*messages: bytes) -> None:
        out.extend(wire.xlog(message, lsn) for message in messages)

    for _ in range(draw(st.integers(0, 8))):
        lsn += 1000
        time = draw(st.integers(0, 1 << 50))
        what = draw(st.sampled_from(["plain", "plain", "block", "block", "end", "keepalive"]))
        if what == "plain":
            inner = [wire.origin("elsewhere")] if draw(st.booleans()) else []
            send(wire.begin(lsn, time, next(xids)), *inner, *draw(messages(None)), wire.commit(lsn, lsn + 40, time))
        elif what == "block":
            known = draw(st.booleans()) and bool(streaming)
            xid = draw(st.sampled_from(sorted(streaming))) if known else next(xids)
            streaming.add(xid)
            writer = next(xids) if draw(st.booleans()) else xid
            send(wire.stream_start(xid, first=not known), *draw(messages(writer)), wire.stream_stop())
            if writer != xid and draw(st.booleans()):
                send(wire.stream_abort(xid, writer))
        elif what == "end" and streaming:
            xid = draw(st.sampled_from(sorted(streaming)))
            streaming.remove(xid)
            send(draw(st.sampled_from([wire.stream_commit(xid, lsn, lsn + 40, time), wire.stream_abort(xid, xid)])))
        elif what == "keepalive":
            out.append(wire.keepalive(lsn, answer=draw(st.booleans())))
    return b"".join(out)


def normal(changes: dict[str, list[Change]]) -> dict[str, list[Change]]:
    """A bad value in the old row is a defect of its row, which does not say where; old nulls of keys are as good as none."""
    return {
        table: [
            Change(
                c.op,
                c.lsn,
                c.nth,
                c.time,
                c.xid,
                c.values,
                None if c.old is None else {k: None if v == BAD else v for k, v in c.old.items()},
            )
            for c in rows
        ]
        for table, rows in changes.items()
        if rows
    }


def expected_of(stream: bytes) -> Reference:
    reference = Reference()
    reference.read(stream)
    return reference


def compare(received: Received, reference: Reference) -> None:
    """The same changes, except where a bad value of the old row has marked a good one of the new row."""
    ours, theirs = normal(received.changes), normal(reference.changes)
    assert ours.keys() == theirs.keys()
    for table, rows in theirs.items():
        assert len(ours[table]) == len(rows)
        for mine, other in zip(ours[table], rows, strict=True):
            values = {k: v if v != BAD else other.values[k] for k, v in mine.values.items()}
            assert Change(mine.op, mine.lsn, mine.nth, mine.time, mine.xid, values, mine.old) == other
            assert all(mine.values[k] == BAD for k, v in other.values.items() if v == BAD)


def check_ends(received: Received, reference: Reference) -> None:
    """A stretch's end is reached by then: all that was committed before it has been given, and nothing after it."""
    given = 0
    for stretch in received.stretches:
        given += sum(len(decoded.batch) for decoded in stretch.batches)
        if stretch.end is not None:
            assert given == sum(change.lsn < stretch.end for rows in reference.changes.values() for change in rows)


SMALL_STREAM = b"".join(
    wire.xlog(message)
    for message in [
        wire.begin(1000, 1, 700),
        describe(PLAIN),
        describe(FULL),
        wire.insert(16384, [b"1", LIKE_A_FRAME, None]),
        wire.update(16385, [b"new", wire.UNCHANGED], [b"old", b"kept"]),
        wire.commit(1000, 1040, 1),
        wire.stream_start(701, first=True),
        describe(PLAIN, 701),
        wire.insert(16384, [b"2", b"streamed", None], 701),
        wire.stream_stop(),
        wire.begin(2000, 2, 702),
        wire.truncate([16384, 16385]),
        wire.commit(2000, 2040, 2),
        wire.stream_start(701, first=False),
        wire.delete(16384, [b"2", None, None], xid=701),
        wire.stream_stop(),
        wire.stream_commit(701, 3000, 3040, 3),
    ]
)

RANDOM = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@RANDOM
@given(stream=streams(), data=st.data())
@pytest.mark.usefixtures("small_buffers")
def test_random_streams_cut_anywhere_give_the_same_changes_as_one_message_at_a_time(
    tmp_path: Path, stream: bytes, data: st.DataObject
) -> None:
    reference = expected_of(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    for received in (decode(stream, tmp_path), Session(tmp_path, spool_bytes=200).run(pieces)):
        compare(received, reference)
        check_ends(received, reference)


@RANDOM
@given(stream=streams(), data=st.data())
@pytest.mark.usefixtures("small_buffers")
def test_a_damaged_stream_gives_changes_or_an_error_and_never_anything_else(tmp_path: Path, stream: bytes, data: st.DataObject) -> None:
    damaged = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    # Any other exception, or none at all after a long time, fails.
    with contextlib.suppress(TerminalError):
        decode(bytes(damaged), tmp_path)


@pytest.mark.usefixtures("small_buffers")
def test_every_split_of_the_bytes_in_two_gives_the_same(tmp_path: Path) -> None:
    reference = expected_of(SMALL_STREAM)
    for cut in range(len(SMALL_STREAM) + 1):
        received = Session(tmp_path).run([SMALL_STREAM[:cut], SMALL_STREAM[cut:]])
        compare(received, reference)
        check_ends(received, reference)
        assert received.last_end == 3040


@pytest.mark.usefixtures("small_buffers")
def test_bytes_that_come_one_by_one_give_the_same(tmp_path: Path) -> None:
    received = Session(tmp_path).run(SMALL_STREAM[i : i + 1] for i in range(len(SMALL_STREAM)))
    compare(received, expected_of(SMALL_STREAM))
