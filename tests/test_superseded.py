"""Of a change that comes late what newer changes have left of it: each key that it touches on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from dataflows.superseded import Newest, still_new
from journal.batch import Op
from journal.quarantine import key_text
from tests.sink_batches import ORDERS, changes, delete, insert, truncate, update


def _newest(**passed: int) -> Newest:
    """`k7=30`: of the key 7 a change with the ordinal 30 has passed."""
    known = {key_text({"id": name[1:]}): ordinal for name, ordinal in passed.items()}

    def newest(dataset: str, keys: Sequence[str]) -> Mapping[str, int]:
        assert dataset == ORDERS.dataset
        return {key: known[key] for key in keys if key in known}

    return newest


def test_what_nothing_newer_has_passed_of_goes_on_as_it_is() -> None:
    batch = changes(ORDERS, insert(id="1"), update({"id": "2"}), delete(id="3"), truncate(), first=10)
    left, gone = still_new(batch, _newest(k1=9, k2=11, k9=99))
    assert (left, gone) == (batch, set())


def test_what_has_been_overtaken_goes_no_further() -> None:
    batch = changes(ORDERS, insert(id="1"), update({"id": "2"}), delete(id="3"), insert(id=None), first=10)
    left, gone = still_new(batch, _newest(k1=20, k3=30))
    assert (left.ordinal.tolist(), gone) == ([11, 13], {10, 12})


@pytest.mark.parametrize("new, old", [(0, 0), (0, 50), (50, 0), (50, 50)])
def test_of_a_change_of_key_each_key_counts_on_its_own(new: int, old: int) -> None:
    moved = update({"id": "2", "name": "b"}, old={"id": "1", "name": "a"})
    batch = changes(ORDERS, insert(id="7"), moved, insert(id="8"), first=10)
    left, gone = still_new(batch, _newest(k2=new, k1=old))
    assert gone == ({11} if new and old else set())
    assert left.ordinal.tolist() == ([10, 12] if new and old else [10, 11, 12])
    if new and old:
        return
    told = left.take(left.ordinal == 11)
    keys = (told.column("id").to_pylist(), told.has_old is not None and told.has_old.tolist() == [True])
    if new:  # the row that it had is gone all the same
        assert (Op(int(told.op[0])), keys) == (Op.DELETE, (["1"], False))
        assert told.absent(ORDERS.index("name")).tolist() == [True]
    elif old:  # the row comes under its new key, and takes nothing from the old one
        assert (Op(int(told.op[0])), keys) == (Op.UPDATE, (["2"], False))
    else:
        assert (Op(int(told.op[0])), keys) == (Op.UPDATE, (["2"], True))
