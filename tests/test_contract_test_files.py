"""The files that `contract test` reads: every format says the same, and what cannot be read is refused."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from quality.contract_reading import load_contract
from quality.contract_test import run_contract_test
from quality.data_file import read_data
from quality.logical_types import in_file
from quality.reading import read_values
from tests.contract_text import one_column, write_contract

EVERY_TYPE = """\
    properties:
      - {name: i, logicalType: integer, required: true}
      - {name: n, logicalType: number}
      - {name: d, logicalType: number, physicalType: 'numeric(8,2)'}
      - {name: b, logicalType: boolean}
      - {name: s, logicalType: string}
      - {name: day, logicalType: date}
      - {name: at, logicalType: timestamp}
      - {name: clock, logicalType: time}
      - {name: doc, logicalType: object, properties: [{name: k, logicalType: integer, required: true}]}
      - {name: list, logicalType: array, logicalTypeOptions: {maxItems: 2}}
    quality:
      - id: all
        type: sql
        mustBe: true
        query: "i > 0 AND n > 0.1 AND d = 1.1 AND b AND s <> '' AND day < '2025-01-01' AND clock > '09:00'"
      - {id: later, type: sql, query: "\\"at\\" >= '2024-01-31 10:00:00' AND doc->>'k' = '1'", mustBe: true}
"""
GOOD = {
    "i": 1, "n": 0.25, "d": 1.1, "b": True, "s": "x,\"y\"\nz", "day": "2024-01-31", "at": "2024-01-31T12:00:00+02:00", "clock": "10:00:00",
    "doc": {"k": 1}, "list": [1, 2],
}  # fmt: skip
BAD = GOOD | {"i": None, "d": 1.2, "doc": {"k": "1"}, "list": [1, 2, 3]}
WRITERS: dict[str, Callable[[list[dict[str, Any]], Path], None]] = {}


def writer(suffix: str) -> Callable[[Callable[[list[dict[str, Any]], Path], None]], None]:
    def register(write: Callable[[list[dict[str, Any]], Path], None]) -> None:
        WRITERS[suffix] = write

    return register


@writer(".jsonl")
def _json_lines(records: list[dict[str, Any]], file: Path) -> None:
    file.write_text("\n".join(map(json.dumps, records)) + "\n\n")


@writer(".json")
def _json_array(records: list[dict[str, Any]], file: Path) -> None:
    file.write_text("\n" + json.dumps(records, indent=1))


@writer(".csv")
def _csv(records: list[dict[str, Any]], file: Path) -> None:
    def cell(value: object) -> str:
        if value is None:
            return ""
        text = value if isinstance(value, str) else json.dumps(value)
        return '"' + text.replace('"', '""') + '"'

    file.write_text("\n".join([",".join(records[0]), *(",".join(map(cell, record.values())) for record in records)]) + "\n")


def _table(records: list[dict[str, Any]]) -> pa.Table:
    columns: dict[str, Any] = {name: [record[name] for record in records] for name in GOOD}
    columns["d"] = pa.array([Decimal(str(value)) for value in columns["d"]], pa.decimal128(8, 2))
    columns["day"] = [dt.date.fromisoformat(value) for value in columns["day"]]
    columns["at"] = [dt.datetime.fromisoformat(value) for value in columns["at"]]
    columns["clock"] = [dt.time.fromisoformat(value) for value in columns["clock"]]
    columns["doc"] = pa.array([json.dumps(value) for value in columns["doc"]])
    return pa.table(columns)


@writer(".parquet")
def _parquet(records: list[dict[str, Any]], file: Path) -> None:
    pyarrow.parquet.write_table(_table(records), file, use_dictionary=True)


@writer(".arrow")
def _arrow_file(records: list[dict[str, Any]], file: Path) -> None:
    table = _table(records)
    with pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table, max_chunksize=1)


@writer(".arrows")
def _arrow_stream(records: list[dict[str, Any]], file: Path) -> None:
    table = _table(records)
    with pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ".arrow", ".arrows"])
def test_every_format_gives_the_same_verdict(tmp_path: Path, suffix: str) -> None:
    data = tmp_path / f"orders{suffix}"
    WRITERS[suffix]([GOOD, BAD, GOOD], data)
    verdict = run_contract_test(write_contract(tmp_path, EVERY_TYPE), data)
    broken = {rule["id"]: rule["rows"] for rule in verdict.answer()["rules"] if rule["failed"]}
    assert broken == {"i-required-1": [1], "all": [1], "doc-shape-1": [1], "list-shape-1": [1]}
    assert (verdict.rows, verdict.passed, verdict.exit_code) == (3, 2, 1)


def test_an_empty_field_is_null_and_a_quoted_one_is_empty_text(tmp_path: Path) -> None:
    data = tmp_path / "o.csv"
    data.write_text('a,b\n,1\n"",2\nx,3\n')
    frame = read_data(data, load_contract(write_contract(tmp_path, one_column("a", "string")))).frame
    assert frame.columns["a"].to_pylist() == [None, "", "x"]


def test_more_columns_than_the_contract_has_are_welcome(tmp_path: Path) -> None:
    data = tmp_path / "o.csv"
    data.write_text("b,a\n1,x\n")
    assert run_contract_test(write_contract(tmp_path, one_column("a", "string")), data).exit_code == 0


@pytest.mark.parametrize("suffix, content", [(".csv", "b\n1\n2\n"), (".jsonl", '{"b": 1}\n{"b": 2}\n')])
def test_a_column_that_the_file_lacks_counts_as_null_and_is_said(tmp_path: Path, suffix: str, content: str) -> None:
    data = tmp_path / f"o{suffix}"
    data.write_text(content)
    verdict = run_contract_test(write_contract(tmp_path, one_column("a", "string", more="\n        required: true")), data)
    assert [rule["rows"] for rule in verdict.answer()["rules"] if rule["failed"]] == [[0, 1]]
    assert verdict.problems == ("the file has no column 'a'; its values count as null",)


def test_columns_of_a_file_may_have_the_physical_or_the_logical_name(tmp_path: Path) -> None:
    contract = write_contract(tmp_path, one_column("a", "integer", options="maximum: 1", more="\n        physicalName: col_a"))
    for name in ("a", "col_a"):
        data = tmp_path / "o.csv"
        data.write_text(f"{name}\n2\n")
        assert run_contract_test(contract, data).exit_code == 1


@pytest.mark.parametrize("name, content", [("o.csv", "a,col_a\n1,2\n"), ("o.jsonl", '{"a": 1, "col_a": 2}\n')])
def test_a_file_with_both_names_of_one_column_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    contract = write_contract(tmp_path, one_column("a", "integer", more="\n        physicalName: col_a"))
    with pytest.raises(ConfigError, match="one column of the contract"):
        run_contract_test(contract, tmp_path / name)


def test_records_may_have_different_keys(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [{}, *({"b": 1} for _ in range(12_000)), {"a": 7, "c": "x"}]
    (tmp_path / "o.jsonl").write_text("\n".join(map(json.dumps, records)))
    data = read_data(tmp_path / "o.jsonl", load_contract(write_contract(tmp_path, one_column("a", "integer"))))
    assert list(data.found.columns) == ["b", "a", "c"]
    assert data.frame.columns["a"].to_pylist() == [record.get("a") for record in records]


def test_whole_numbers_that_pandas_wrote_as_floats_are_whole(tmp_path: Path) -> None:
    data = tmp_path / "o.parquet"
    pyarrow.parquet.write_table(pa.table({"a": [1.0, None, 2.5]}), data)
    verdict = run_contract_test(write_contract(tmp_path, one_column("a", "integer", options="maximum: 0")), data)
    assert {rule["id"]: rule["rows"] for rule in verdict.answer()["rules"]} == {"a-type-1": [2], "a-maximum-1": [0]}


def test_a_typed_column_of_another_kind_breaks_the_type_on_every_row(tmp_path: Path) -> None:
    data = tmp_path / "o.parquet"
    pyarrow.parquet.write_table(pa.table({"a": [True, None]}), data)
    verdict = run_contract_test(write_contract(tmp_path, one_column("a", "date")), data)
    assert [rule["rows"] for rule in verdict.answer()["rules"]] == [[0]]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("o.jsonl", b'{"a": 1}\n{"a": \n', "not a line of JSON"),
        ("o.jsonl", b"[1]", "is not an object"),
        ("o.jsonl", b'{"a": 1}\n5\n', "one object a line"),
        ("o.json", b'[{"a": 1},', "not JSON"),
        ("o.jsonl", b"\xff\xfe\x00", "cannot be read"),
        ("o.csv", b"a,b\n1\n", "cannot be read"),
        ("o.csv", b"a,a\n1,2\n", "two columns 'a'"),
        ("o.csv", b"", "cannot be read"),
        ("o.csv", b"a\n\xff\n", "cannot be read"),
        ("o.parquet", b"PAR1 nonsense", "cannot be read"),
        ("o.arrow", b"nonsense", "cannot be read"),
        ("o.xlsx", b"x", "no known suffix"),
    ],
)
def test_data_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        run_contract_test(write_contract(tmp_path, one_column("a", "integer")), tmp_path / name)
    assert caught.value.exit_code == 2


def test_what_stands_in_a_line_that_is_too_long_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("a\n1,ann@example.com\n")
    with pytest.raises(ConfigError, match=r"got 2$"):
        run_contract_test(write_contract(tmp_path, one_column("a", "integer")), tmp_path / "o.csv")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        run_contract_test(write_contract(tmp_path, one_column("a", "integer")), tmp_path / "none.csv")


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "o.jsonl").write_text('{"a": 1}\n\n{oops}\n')
    with pytest.raises(ConfigError) as caught:
        run_contract_test(write_contract(tmp_path, one_column("a", "integer")), tmp_path / "o.jsonl")
    assert caught.value.problems[0].line == 3


@pytest.mark.parametrize(
    "logical, physical, text, value",
    [
        ("integer", None, "+007", 7),
        ("integer", None, "9223372036854775808", Decimal(2**63)),
        ("number", None, "-1.5e3", -1500.0),
        ("number", None, "Infinity", float("inf")),
        ("number", "numeric(6,2)", "1.500", Decimal("1.50")),
        ("number", "decimal(6,2)", "12e1", Decimal("120.00")),
        ("boolean", None, "YES", True),
        ("boolean", None, "0", False),
        ("date", None, "2024-02-29", dt.date(2024, 2, 29)),
        ("date", None, "2024-02-29 10:00", dt.datetime(2024, 2, 29, 10, 0)),
        ("timestamp", None, "2024-02-29", dt.datetime(2024, 2, 29)),
        ("timestamp", "timestamptz", "2024-02-29T10:00:00+0530", dt.datetime(2024, 2, 29, 4, 30, tzinfo=dt.UTC)),
        ("timestamp", None, "2024-02-29T10:00:00.1234567Z", dt.datetime(2024, 2, 29, 10, 0, 0, 123456)),
        ("time", None, "10:00:00.5", dt.time(10, 0, 0, 500000)),
        ("object", None, '{"a": 1}', '{"a": 1}'),
        ("string", "uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
    ],
)
def test_text_is_read_as_the_contracts_type(logical: str, physical: str | None, text: str, value: object) -> None:
    read = read_values(pa.array([text, None]), in_file(logical, physical))
    assert read.values.to_pylist() == [value, None]
    assert not read.malformed.any()


@pytest.mark.parametrize(
    "logical, physical, text",
    [
        ("integer", None, "1.5"),
        ("integer", None, "1e3"),
        ("integer", None, ""),
        ("integer", None, " 1"),
        ("number", None, "1,5"),
        ("number", None, "--1"),
        ("number", "numeric(6,2)", "1.005"),
        ("number", "numeric(6,2)", "12345"),
        ("number", "numeric(6,2)", "NaN"),
        ("boolean", None, "maybe"),
        ("date", None, "2023-02-29"),
        ("date", None, "29.02.2024"),
        ("timestamp", None, "2024-02-29T25:00:00"),
        ("timestamp", None, "infinity"),
        ("time", None, "25:00"),
        ("object", None, "[1]"),
        ("object", None, "{bad"),
        ("array", None, "{}"),
        ("string", "uuid", "a0eebc99"),
    ],
)
def test_text_that_is_no_value_of_the_type_is_malformed(logical: str, physical: str | None, text: str) -> None:
    read = read_values(pa.array([text, None]), in_file(logical, physical))
    assert read.malformed.tolist() == [True, False]
    assert read.values.to_pylist() == [None, None]


@given(st.lists(st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4))))
def test_a_number_is_read_as_python_reads_it_or_is_malformed(values: list[object]) -> None:
    texts = [None if value is None else str(value) for value in values]
    read = read_values(pa.array(texts, pa.string()), in_file("number", None))
    for value, found, malformed in zip(values, read.values.to_pylist(), read.malformed, strict=True):
        if isinstance(value, int | float):
            assert found == float(value)
        assert malformed == (value is not None and found is None)


def test_limits_hold_for_unsigned_numbers_and_for_nanoseconds(tmp_path: Path) -> None:
    file = tmp_path / "wide.parquet"
    pa.parquet.write_table(
        pa.table({"n": pa.array([2**64 - 1, 5], pa.uint64()), "at": pa.array([1_500, 1_704_067_200_000_000_001], pa.timestamp("ns"))}), file
    )
    contract = write_contract(
        tmp_path,
        "    properties:\n"
        "      - {name: n, logicalType: integer, logicalTypeOptions: {minimum: 5, maximum: 10}}\n"
        "      - {name: at, logicalType: timestamp, logicalTypeOptions: {minimum: '2024-01-01T00:00:00Z'}}\n",
    )
    failed = {result.rule.id: result.answer()["rows"] for result in run_contract_test(contract, file).results}
    assert failed == {"n-type-1": [], "n-minimum-1": [], "n-maximum-1": [0], "at-type-1": [], "at-minimum-1": [0]}
