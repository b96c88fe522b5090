"""An export that somebody mends and gives back: what has changed in it is a fix, of all its records or of none."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fix_life import Life

Rows = list[dict[str, Any]]


def _csv(file: Path, change: Callable[[Rows], None]) -> None:
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    change(rows)
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _jsonl(file: Path, change: Callable[[Rows], None]) -> None:
    records = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [{**record, **{f"row.{name}": value for name, value in record["row"].items()}} for record in records]
    change(rows)
    for record, row in zip(records, rows, strict=True):
        record["row"] = {name.removeprefix("row."): value for name, value in row.items() if name.startswith("row.")}
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


def _parquet(file: Path, change: Callable[[Rows], None]) -> None:
    table = pq.read_table(file)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file)


_EDITED = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}


def _exported(life: Life, ending: str) -> Path:
    file = life.folder / f"bad.{ending}"
    assert life.run("quarantine export", "--out", file).code == 0
    return file


@pytest.mark.parametrize("ending", _EDITED)
def test_what_is_another_value_in_the_file_is_set(life: Life, ending: str) -> None:
    first, second, third = life.ids()
    file = _exported(life, ending)

    def mend(rows: Rows) -> None:
        assert [row["row.region"] for row in rows] == ["***"] * 3
        rows[0]["row.amount"] = "1"
        rows[2] |= {"row.amount": "3.5", "row.region": "EU"}

    _EDITED[ending](file, mend)
    answer = life.step("quarantine import", "--file", file, "--by", "ann@example.com")
    assert (answer["fixed"], answer["unchanged"]) == (2, 1)
    patches = {one: life.run("quarantine show", one, "--unmasked", "--json").json["patch"] for one in (first, second, third)}
    assert patches == {first: {"amount": "1.00"}, second: None, third: {"amount": "3.50", "region": "EU"}}
    life.step("quarantine approve", first, third, "--by", "bo@example.com")
    assert life.step("quarantine replay", "--approved")["resolved"] == 2
    assert {"order_id": "1", "region": "SECRET-1", "amount": "1.00"} in [row for _, row in life.delivered()]
    assert life.step("audit verify")["sound"]


def test_a_file_that_nobody_has_touched_changes_nothing(life: Life) -> None:
    for ending in _EDITED:
        answer = life.step("quarantine import", "--file", _exported(life, ending), "--by", "ann@example.com")
        assert (answer["fixed"], answer["unchanged"]) == (0, 3)


def test_every_line_that_cannot_be_taken_is_told_and_none_is(life: Life) -> None:
    first, second, _ = life.ids()
    file = _exported(life, "csv")
    life.step("quarantine discard", second, "--why", "a test", "--by", "ann@example.com")

    def spoil(rows: Rows) -> None:
        rows[1]["row.amount"] = "2"
        rows[2]["id"] = "nobody-7"
        rows.append({**rows[0], "id": ""})
        rows.append(dict(rows[0]))

    _csv(file, spoil)
    done = life.run("quarantine import", "--file", file, "--by", "ann@example.com")
    assert done.code == 2
    said = [line for line in done.err.splitlines() if str(file) in line]
    assert [line.partition(f"{file}:")[2] for line in said] == [
        f"3: the record {second} is not as it was when it was exported: it is discarded now",
        "4: there is no record nobody-7 in quarantine",
        "5: the line has no `id`: it has to be one of an export",
        f"6: the record {first} stands on line 2 already",
    ]
    assert life.run("quarantine show", first, "--json").json["patch"] is None


def test_values_of_the_wrong_type_are_told_with_their_lines_and_nothing_is_set(life: Life) -> None:
    first, *_ = life.ids()
    file = _exported(life, "csv")

    def spoil(rows: Rows) -> None:
        rows[0]["row.amount"] = "1.00"
        rows[1] |= {"row.amount": "lots", "row.order_id": "x"}

    _csv(file, spoil)
    done = life.run("quarantine import", "--file", file, "--by", "ann@example.com")
    assert done.code == 2
    assert f"{file}:3: " in done.err
    assert "amount is numeric(12,2), which it is not" in done.err
    assert "order_id is bigint" in done.err
    assert life.run("quarantine show", first, "--json").json["patch"] is None


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.csv", ""),
        ("a.csv", "no such thing"),
        ("a.csv", "id,row.amount\nx\n"),
        ("a.csv", "id\nx\n"),
        ("a.jsonl", "no such thing"),
        ("a.jsonl", '{"id": "x"}'),
        ("a.jsonl", "[]"),
        ("a.parquet", ""),
        ("a.parquet", "no such thing"),
        ("a.xlsx", "id"),
    ],
)
def test_files_that_are_none_are_refused(life: Life, name: str, content: str) -> None:
    file = life.folder / name
    file.write_text(content)
    done = life.run("quarantine import", "--file", file, "--by", "ann@example.com")
    assert (done.code, str(file) in done.err) == (2, True), done.err
