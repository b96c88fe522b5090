"""The promise of a draft: it is a sound contract, and every rule of it holds on the data that it was made from."""

from __future__ import annotations

import csv
import datetime as dt
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from quality.contract_reading import load_contract
from quality.contract_test import run_contract_test
from quality.profile.profiling import Profiled, profile_file

HOSTILE_NAMES = [
    "select",
    "a b",
    'quo"te',
    "null",
    "true",
    "1",
    "~",
    "{object}",
    "${x}",
    "é",
    "A",
    "a",
    "- x",
    "# no",
    "x: y",
    "'",
    "*",
    "\t",
]
ANY_NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
NAMES = st.lists(st.one_of(st.sampled_from(HOSTILE_NAMES), ANY_NAME), max_size=5, unique=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MOMENTS = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31))
FREE = {
    "words": st.sampled_from(["EUR", "USD", "N/A", "eur", " EUR", "", "null", "2024-01-01", "1", "yes"]),
    "codes": st.from_regex(r"\A[A-Z]{2}-[0-9]{3,5}\Z"),
    "texts": TEXTS,
    "integers": st.integers(-(10**20), 10**20).map(str),
    "small": st.integers(-3, 3).map(str),
    "zeros": st.integers(0, 99).map("{:04d}".format),
    "numbers": st.one_of(st.floats(), st.sampled_from([-0.0, math.nan, math.inf, -math.inf, 1e308, 5e-324, 0.1])).map(str),
    "decimals": st.decimals(-1000, 1000, places=2).map(str),
    "commas": st.sampled_from(["1,5", "1.5", "1.000,5", "2"]),
    "dates": st.dates().map(str),
    "mixed dates": st.dates().flatmap(lambda day: st.sampled_from([str(day), f"{day:%d.%m.%Y}", f"{day:%m/%d/%Y}"])),
    "german dates": st.dates(dt.date(1000, 1, 1)).map("{:%d.%m.%Y}".format),
    "moments": MOMENTS.map(lambda at: at.isoformat()),
    "zoned": st.sampled_from(["2024-01-01T10:00:00Z", "2024-01-01T10:00:00+02:00", "2024-01-01 10:00", "2024-01-01"]),
    "times": st.times().map(str),
    "booleans": st.sampled_from(["yes", "no", "true", "F", "on"]),
    "uuids": st.uuids().map(str),
    "mails": st.from_regex(r"\A[a-z]{1,5}@[a-z]{1,5}\.org\Z"),
    "documents": st.sampled_from(['{"a": 1}', "{}", '{"b": [1, 2]}']),
    "lists": st.sampled_from(["[1]", "[]", '["x"]']),
    "cards": st.sampled_from(["4111111111111111", "5500000000000004"]),
}  # fmt: skip
TYPED: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "arrow int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "arrow uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "arrow int8": (pa.int8(), st.integers(-5, 5)),
    "arrow double": (pa.float64(), st.one_of(st.floats(), st.sampled_from([-0.0, 0.0, math.nan]))),
    "arrow float": (pa.float32(), st.floats(width=32)),
    "arrow decimal": (pa.decimal128(38, 4), st.decimals(-(10**9), 10**9, places=4)),
    "arrow wide": (pa.decimal256(60, 2), st.decimals(-(10**50), 10**50, places=2)),
    "arrow boolean": (pa.bool_(), st.booleans()),
    "arrow date": (pa.date32(), st.dates()),
    "arrow moment": (pa.timestamp("us"), MOMENTS),
    "arrow nanos": (pa.timestamp("ns"), st.integers(-(2**62), 2**62)),
    "arrow zoned": (pa.timestamp("ms", "Europe/Berlin"), st.integers(-(2**40), 2**40)),
    "arrow time": (pa.time64("ns"), st.integers(0, 86_399_999_999_999)),
    "arrow bytes": (pa.binary(), st.binary(max_size=4)),
    "arrow text": (pa.large_string(), TEXTS),
    "arrow coded": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b", ""])),
    "arrow struct": (pa.struct([("k", pa.int64())]), st.fixed_dictionaries({"k": st.integers(0, 3)})),
    "arrow list": (pa.list_(pa.int64()), st.lists(st.integers(0, 3), max_size=3)),
    "arrow duration": (pa.duration("s"), st.integers(0, 100)),
    "arrow nothing": (pa.null(), st.none()),
}


@st.composite
def tables(draw: st.DrawFn, kinds: Sequence[str]) -> dict[str, tuple[str, list[Any]]]:
    """Column -> (kind, index of values to be drawn): from none to sixty rows, with and without nulls."""
    rows = draw(st.sampled_from([0, 1, 12, 25, 60]))
    found: dict[str, tuple[str, list[Any]]] = {}
    for name in draw(NAMES):
        kind = draw(st.sampled_from(list(kinds)))
        values = FREE[kind] if kind in FREE else TYPED[kind][1]
        wanted = st.lists(values, min_size=1, max_size=max(rows, 1))
        few = draw(wanted)
        nulls = draw(st.sampled_from([0, 0, 1, 3]))
        found[name] = (kind, [None if nulls and (i * 7 + nulls) % 5 < nulls else few[i % len(few)] for i in range(rows)])
    return found


def _holds(data: Path) -> Profiled:
    found = profile_file(data)
    assert found.left_out == 0, found.profile.findings
    contract = data.with_suffix(".odcs.yaml")
    contract.write_text(found.yaml, "utf-8")
    assert load_contract(contract).status == "draft"
    verdict = run_contract_test(contract, data)
    broken = [result.answer() for result in verdict.results if not result.success or (result.failed is not None and result.failed.any())]
    assert not broken, found.yaml
    assert verdict.passed == verdict.rows
    return found


HOW = settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@HOW
@given(tables([*FREE]))
def test_a_draft_holds_on_the_csv_file_that_it_is_made_of(tmp_path: Path, table: dict[str, tuple[str, list[Any]]]) -> None:
    data = tmp_path / "data.csv"
    rows = max((len(values) for _, values in table.values()), default=0)
    with data.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NOTNULL if hasattr(csv, "QUOTE_NOTNULL") else csv.QUOTE_MINIMAL)
        writer.writerow([*table, "last"])
        writer.writerows([*(values[row] for _, values in table.values()), row] for row in range(rows))
    if "last" not in table:
        _holds(data)


@HOW
@given(tables([*FREE, "arrow int64", "arrow boolean", "arrow double", "arrow struct", "arrow list"]))
def test_a_draft_holds_on_the_json_lines_that_it_is_made_of(tmp_path: Path, table: dict[str, tuple[str, list[Any]]]) -> None:
    data = tmp_path / "data.jsonl"
    rows = max((len(values) for _, values in table.values()), default=0)
    lines = [{name: values[row] for name, (_, values) in table.items() if values[row] is not None or row % 2} for row in range(rows)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    _holds(data)


@HOW
@given(tables([*TYPED, *FREE]), st.sampled_from([".parquet", ".arrow"]))
def test_a_draft_holds_on_the_typed_file_that_it_is_made_of(tmp_path: Path, table: dict[str, tuple[str, list[Any]]], suffix: str) -> None:
    data = tmp_path / f"data{suffix}"
    if suffix == ".parquet":
        table = {name: column for name, column in table.items() if column[0] != "arrow duration"}
    typed = pa.table({name: pa.array(values, TYPED[kind][0] if kind in TYPED else pa.string()) for name, (kind, values) in table.items()})
    if suffix == ".parquet":
        pa.parquet.write_table(typed, data)
    else:
        pa.feather.write_feather(typed, data, compression="uncompressed")
    _holds(data)
