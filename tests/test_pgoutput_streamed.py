"""Transactions that are streamed before they commit, and bytes that are no protocol."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from pipeline.errors import TerminalError, TransientError
from sources.postgres.decoder import Idle
from tests import pgoutput_wire as wire
from tests.pgoutput_session import (
    PLAIN,
    WIDER,
    Session,
    batches,
    decode,
    describe,
    keys,
    plain_row,
    stream_commit,
    streamed,
    transaction,
)


def test_trap_12_a_rolled_back_subtransaction_takes_only_its_own_changes_and_descriptions_with_it(tmp_path: Path) -> None:
    stream = streamed(700, describe(PLAIN, 700), plain_row(1, 700), plain_row(2, 701), describe(WIDER, 701))
    stream += streamed(700, wire.insert(PLAIN[0], [b"3", b"", b"", b""], 701), wire.truncate([PLAIN[0]], xid=701), first=False)
    stream += wire.xlog(wire.stream_abort(700, 701))
    stream += streamed(700, describe(PLAIN, 700), plain_row(4, 700), plain_row(5, 702), first=False)
    received = decode(stream + stream_commit(700), tmp_path)
    assert keys(batches(received)) == ["1", "4", "5"]
    assert [change.nth for change in received.changes["public.plain"]] == [0, 1, 2]
    assert {change.xid for change in received.changes["public.plain"]} == {700}


def test_trap_12_a_streamed_transaction_that_is_rolled_back_leaves_nothing(tmp_path: Path) -> None:
    stream = streamed(700, describe(PLAIN, 700), plain_row(1, 700)) + wire.xlog(wire.stream_abort(700, 700))
    session = Session(tmp_path)
    session.run([stream])
    assert session.received.stretches == []
    assert session.spool.size(700) == 0


def test_trap_12_blocks_of_several_transactions_between_others_come_at_their_commits(tmp_path: Path) -> None:
    stream = streamed(700, describe(PLAIN, 700), plain_row(1, 700)) + streamed(800, describe(PLAIN, 800), plain_row(2, 800))
    stream += transaction(describe(PLAIN), plain_row(3), lsn=1000) + streamed(700, plain_row(4, 700), first=False)
    stream += stream_commit(800, lsn=2000) + transaction(plain_row(5), lsn=3000) + stream_commit(700, lsn=4000)
    received = decode(stream, tmp_path)
    assert keys(batches(received)) == ["3", "2", "5", "1", "4"]
    assert [change.lsn for change in received.changes["public.plain"]] == [1000, 2000, 3000, 4000, 4000]
    assert received.last_end == 4040


def test_trap_12_an_xid_that_comes_round_again_starts_afresh(tmp_path: Path) -> None:
    stream = streamed(700, describe(PLAIN, 700), plain_row(1, 700)) + streamed(700, describe(PLAIN, 700), plain_row(2, 700))
    assert keys(batches(decode(stream + stream_commit(700), tmp_path))) == ["2"]


def test_a_large_streamed_transaction_goes_to_disk_and_comes_back_in_pieces(tmp_path: Path) -> None:
    session = Session(tmp_path, spool_bytes=100_000)
    note = b"n" * 1000
    session.run([streamed(700, describe(PLAIN, 700))])
    for begin in range(0, 6000, 500):
        rows = [wire.insert(PLAIN[0], [b"%d" % i, note, None], 700) for i in range(begin, begin + 500)]
        session.run([streamed(700, *rows, first=False)])
        assert session.spool.in_memory <= 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["700.spool"]
    session.run([stream_commit(700)])
    pieces = session.received.stretches
    assert max(sum(decoded.batch.nbytes for decoded in stretch.batches) for stretch in pieces) < 2_500_000
    assert [stretch.end for stretch in pieces] == [None] * (len(pieces) - 1) + [9040]
    assert [change.nth for change in session.received.changes["public.plain"]] == list(range(6000))
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_a_streamed_transaction_is_urgent_where_its_last_rows_are_not_wanted(tmp_path: Path) -> None:
    unwanted = (20000, "unwanted", "d", (("id", True),))
    session = Session(tmp_path)
    for _ in range(3):
        rows = [wire.insert(PLAIN[0], [b"1", b"n" * 1000, None], 700) for _ in range(800)]
        session.run([streamed(700, describe(PLAIN, 700), *rows, first=False)])
    rows = [wire.insert(unwanted[0], [b"n" * 1000], 700) for _ in range(800)]
    session.run([streamed(700, describe(unwanted, 700), *rows, first=False) + stream_commit(700)])
    assert {stretch.end for stretch in session.received.stretches} == {None}
    assert session.decoder.idle == Idle(9040, urgent=True)


def test_what_an_earlier_process_spooled_is_removed(tmp_path: Path) -> None:
    (tmp_path / "700.spool").write_bytes(b"left by a process that was killed")
    (tmp_path / "kept.txt").write_text("not ours")
    Session(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_a_spool_that_cannot_be_written_says_where_and_what_to_do(tmp_path: Path) -> None:
    session = Session(tmp_path / "spool", spool_bytes=10)
    (tmp_path / "spool").write_text("a file where the folder should be")
    with pytest.raises(TransientError, match=re.escape(str(tmp_path / "spool"))):
        session.run([streamed(700, describe(PLAIN, 700), plain_row(1, 700))])


def insert_with(body: bytes) -> bytes:
    return transaction(describe(PLAIN), b"I" + struct.pack(">I", PLAIN[0]) + body)


@pytest.mark.parametrize(
    "stream, what",
    [
        (transaction(b"Q" + b"0" * 30), "kind b'Q'"),
        (wire.xlog(describe(PLAIN)) + wire.xlog(plain_row(1)), "outside of any transaction"),
        (transaction(describe(PLAIN)) + wire.xlog(plain_row(1)), "outside of any transaction"),
        (wire.xlog(wire.begin(1, 2, 3)) * 2, "inside another"),
        (transaction() + wire.xlog(wire.commit(1, 2, 3)), "inside another"),
        (transaction(plain_row(1)), "never described"),
        (transaction(wire.truncate([77])), "never described"),
        (insert_with(b"N" + struct.pack(">H", 2) + b"nn"), "2 columns in a table of 3"),
        (insert_with(b"N" + struct.pack(">H", 3) + b"nnb"), "neither text nor null"),
        (insert_with(b"K" + struct.pack(">H", 3) + b"nnn"), "neither new, nor old"),
        (insert_with(b"N" + struct.pack(">H", 3) + b"nnnn"), "does not end where"),
        (insert_with(b"N" + struct.pack(">H", 3) + b"nt" + struct.pack(">I", 1 << 30) + b"x" * 70_000 + b"n"), "beyond the end"),
        (wire.xlog(describe(PLAIN)[:-3]), "Relation message"),
        (wire.xlog(wire.stream_stop()), "where it cannot"),
        (streamed(1, wire.begin(1, 2, 3)) + stream_commit(1), "cannot be in a streamed"),
        (wire.frame(b"x" + b"0" * 40), "frame of kind b'x'"),
        (b"d" + struct.pack(">I", 3) + b"w" * 40, "claims 3 bytes"),
        (b"d" + struct.pack(">I", 0xF0000000) + b"w" * 40, "claims 4026531840 bytes"),
        (wire.frame(b"w" + b"\0" * 5), "a frame of"),
    ],
)  # fmt: skip
def test_what_is_not_the_protocol_is_an_error_that_says_so(tmp_path: Path, stream: bytes, what: str) -> None:
    with pytest.raises(TerminalError, match="cannot be understood") as raised:
        decode(stream, tmp_path)
    assert what in raised.value.message
