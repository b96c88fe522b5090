"""What judges large batches at once says what judging value by value says."""

from __future__ import annotations

import json
import random

import numpy as np
import pyarrow as pa
import pytest

from quality.checks import no_duplicates
from quality.frame import Frame
from tests.kernel_asking import failing

_LETTERS = [",", "]", "}", "[", "{", '"', ":", " ", "\t", "\n", "\x00", "\x01", "\xa0", "\ufeff", "0", "1", "-", "+", ".", "e", "/", "//"]
_LETTERS += ["#", "\\", "u", "NaN", "nan", "Infinity", "inf", "'", "t", "\u2028", "/**/", "\\ud800", "\\u00", "true", "True", "null"]


def _value(chance: random.Random, depth: int = 0) -> object:
    kind = chance.random()
    if depth > 3 or kind < 0.4:
        return chance.choice(
            [None, True, 0, -1, 1.5, 1e300, "", "a", "é", "🙂", "\n", "\\", '"', float("inf"), float("nan"), 10**30, "nan", "\x7f"]
        )
    if kind < 0.7:
        return [_value(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    return {chance.choice(["a", "b", "", "é"]): _value(chance, depth + 1) for _ in range(chance.randint(0, 3))}


def _texts(chance: random.Random, count: int) -> list[str]:
    found = ["[" * n + "]" * n for n in (10, 400, 449, 500, 1000)] + ["1" * n for n in (300, 899, 5000)] + ["1e400", "\ufeff{}", "01", "-"]
    while len(found) < count:
        text = json.dumps(_value(chance), ensure_ascii=chance.random() < 0.5)
        for _ in range(chance.choice([0, 0, 1, 1, 2])):
            at = chance.randint(0, len(text))
            text = text[:at] + chance.choice(_LETTERS) + text[at + chance.choice([0, 0, 1]) :]
        found.append(text)
    return found


def _reads(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def test_texts_are_json_where_python_reads_them() -> None:
    texts = _texts(random.Random(7), 4000)
    found = failing("expect_column_values_to_be_json_parseable", {"a": pa.array(texts)}, column="a")
    assert found == [place for place, text in enumerate(texts) if not _reads(text)]
    assert 1000 < len(found) < 3500


@pytest.mark.parametrize("values", [pa.array(np.arange(6000) * 10**12), pa.array([f"text {n}" for n in range(6000)])])
@pytest.mark.parametrize("copies", [0, 1])
def test_copies_are_found_among_many_values(values: pa.Array, copies: int) -> None:
    array = pa.concat_arrays([values, values.slice(17, copies)])
    other = pa.array(np.arange(len(array)) % 7)
    wanted = [17, 6000] if copies else []
    assert failing("expect_column_values_to_be_unique", {"a": array}, column="a") == wanted
    same = pa.concat_arrays([other.slice(0, 6000), other.slice(17, copies)])
    assert failing("expect_compound_columns_to_be_unique", {"a": array, "b": same}, column_list=["a", "b"]) == wanted
    assert failing("expect_compound_columns_to_be_unique", {"a": array, "b": pa.array(np.arange(len(array)))}, column_list=["a", "b"]) == []
    judged = no_duplicates(("a", "b")).judge(Frame({"a": array, "b": same}, len(array)))
    assert np.flatnonzero(judged.failed).tolist() == wanted
