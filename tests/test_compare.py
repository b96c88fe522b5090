from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.compare import Comparison


def _table(*rows: tuple[str | None, ...]) -> pa.Table:
    return pa.table({name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(("a", "b"))})


def _found(key: list[str], source: pa.Table, sink: pa.Table, folder: Path) -> set[tuple[str, str, int]]:
    comparison = Comparison(key, ["a", "b"], folder)
    comparison.add("source", source)
    comparison.add("sink", sink)
    found = {(one.key, one.kind, one.times) for one in comparison.differences()}
    comparison.close()
    return found


def test_each_key_that_differs_is_named_with_what_is_the_matter(tmp_path: Path) -> None:
    source = _table(("1", "x"), ("2", None), ("3", "é"))
    sink = _table(("1", "x"), ("2", ""), ("4", "é"))
    assert _found(["a"], source, sink, tmp_path) == {('["2"]', "different", 1), ('["3"]', "missing", 1), ('["4"]', "extra", 1)}


def test_rows_without_a_key_are_compared_as_a_multiset(tmp_path: Path) -> None:
    source = _table(("1", "x"), ("1", "x"), ("1", "x"), ("2", "y"))
    sink = _table(("1", "x"), ("2", "y"), ("2", "y"))
    assert _found([], source, sink, tmp_path) == {('["1","x"]', "missing", 2), ('["2","y"]', "extra", 1)}


def test_a_key_that_is_doubled_in_the_sink_is_extra(tmp_path: Path) -> None:
    assert _found(["a"], _table(("1", "x")), _table(("1", "x"), ("1", "x")), tmp_path) == {('["1"]', "extra", 1)}


def test_keys_that_are_forgotten_can_be_looked_at_again(tmp_path: Path) -> None:
    comparison = Comparison(["a"], ["a", "b"], tmp_path)
    comparison.add("source", _table(("1", "new")))
    comparison.add("sink", _table(("1", "old")))
    comparison.forget([one.key for one in comparison.differences()])
    comparison.add("source", _table(("1", "new")))
    comparison.add("sink", _table(("1", "new")))
    assert comparison.differences() == []


def test_what_changes_at_the_source_meanwhile_is_told_apart_from_what_differs(tmp_path: Path) -> None:
    comparison = Comparison(["a"], ["a", "b"], tmp_path)
    comparison.add("source", _table(("1", "x"), ("2", "x"), ("3", "x")))
    comparison.add("sink", _table(("1", "y"), ("2", "y"), ("3", "x")))
    comparison.add("after", _table(("1", "y"), ("2", "x")))
    found = [one.key for one in comparison.differences()]
    assert sorted(found) == ['["1"]', '["2"]']
    assert comparison.moved(found) == {'["1"]'}


@pytest.mark.parametrize(
    "left, right", [(("a", None), ("a", "null")), ((None, "x"), ("", "x")), (('a"', "b"), ("a", '"b')), (("1,2", "3"), ("1", "2,3"))]
)
def test_rows_that_look_alike_are_told_apart(left: tuple[str | None, ...], right: tuple[str | None, ...], tmp_path: Path) -> None:
    assert _found([], _table(left), _table(right), tmp_path)


_text = st.one_of(st.none(), st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4))
_rows = st.lists(st.tuples(_text, _text), max_size=12)


@given(_rows, _rows)
@settings(max_examples=60, deadline=None)
def test_there_is_no_difference_exactly_where_the_multisets_are_equal(
    left: list[tuple[str | None, str | None]], right: list[tuple[str | None, str | None]]
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        same = not _found([], _table(*left), _table(*right), Path(folder))
    assert same == (sorted(map(repr, left)) == sorted(map(repr, right)))
