"""What `profile` finds in data, what it hides, and how it ends for data that it cannot read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from quality.contract_reading import load_contract
from quality.contract_test import run_contract_test
from quality.gate import Gate
from quality.profile.batches import Batch, Field
from quality.profile.looking import Known
from quality.profile.model import ColumnProfile, Finding
from quality.profile.profiling import Profiled, profile_batches, profile_file
from sources.postgres.one_table import OneTable
from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import PASSWORD, Database
from tests.invoking import sluice
from tests.waiting import wait_for

EMAILS = [f"someone{n}@example.org" for n in range(40)]
CARDS = ["4111111111111111", "5500000000000004", "340000000000009", "30000000000004"] * 10


def _file(folder: Path, called: str, /, **columns: Sequence[object]) -> Path:
    file = folder / called
    rows = len(next(iter(columns.values())))
    lines = [",".join(columns), *(",".join("" if v[row] is None else f'"{v[row]}"' for v in columns.values()) for row in range(rows))]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def _column(found: Profiled, name: str) -> ColumnProfile:
    return next(column for column in found.profile.columns if column.name == name)


def _findings(found: Profiled, column: str) -> dict[str, Finding]:
    return {finding.kind: finding for finding in found.profile.all_findings if finding.column == column}


def test_text_that_is_always_something_narrower_gets_that_type(tmp_path: Path) -> None:
    file = _file(
        tmp_path, "types.csv", i=["1", "-2"] * 6, n=["1.5", "2"] * 6, b=["yes", "no"] * 6, d=["2024-01-31", "2024-02-01"] * 6,
        german=["31.01.2024", "01.02.2024"] * 6, at=["2024-01-31T10:00:00Z"] * 12, clock=["10:30"] * 12, doc=['{""k"": 1}'] * 12,
        zip=["01234", "99999"] * 6, either=["01/02/2024", "03/04/2024"] * 6,
    )  # fmt: skip
    found = profile_file(file)
    types = {column.name: (column.logical, column.format) for column in found.profile.columns}
    assert types == {
        "i": ("integer", None), "n": ("number", None), "b": ("boolean", None), "d": ("date", None), "german": ("date", "dd.MM.yyyy"),
        "at": ("timestamp", None), "clock": ("time", None), "doc": ("object", None), "zip": ("string", None), "either": ("string", None),
    }  # fmt: skip
    assert "leading-zeros" in _findings(found, "zip")
    assert "ambiguous-dates" in _findings(found, "either")


def test_mixtures_of_formats_are_found(tmp_path: Path) -> None:
    file = _file(
        tmp_path, "mixed.csv", day=["2024-01-31", "31.01.2024"] * 20, price=["1,5", "1.5"] * 20, weight=["1 kg", "500 g"] * 20,
        at=["2024-01-31T10:00:00Z", "2024-01-31T10:00:00+02:00"] * 20, word=["Berlin", "berlin "] * 20, gone=["N/A", "x"] * 20,
    )  # fmt: skip
    found = profile_file(file)
    kinds = {column.name: set(_findings(found, column.name)) for column in found.profile.columns}
    assert kinds == {
        "day": {"mixed-dates"}, "price": {"mixed-numbers"}, "weight": {"mixed-units"}, "at": {"mixed-zones", "constant"} & kinds["at"],
        "word": {"padded", "mixed-case"}, "gone": {"stand-in"},
    }  # fmt: skip
    assert "mixed-zones" in kinds["at"]
    assert _findings(found, "word")["padded"].rows == 20


def test_numbers_are_told_with_their_outliers(tmp_path: Path) -> None:
    file = _file(tmp_path, "numbers.csv", amount=[*range(100), 100_000])
    amount = _column(profile_file(file), "amount")
    assert (amount.least, amount.most, amount.distinct, amount.quantiles["p50"]) == (0, 100_000, 101, 50)
    assert amount.outliers is not None
    assert (amount.outliers.rows, list(amount.outliers.examples)) == (1, ["100000"])
    assert sum(bar.rows for bar in amount.histogram) == 101


def test_nulls_blanks_and_repeated_values_are_counted(tmp_path: Path) -> None:
    file = _file(tmp_path, "gaps.csv", word=[None, "", "  ", "a", "a", "b"], n=[1, 2, 3, 4, 5, 6])
    word = _column(profile_file(file), "word")
    assert (word.nulls, word.empty, word.blank, word.distinct, word.repeated) == (1, 1, 1, 4, 1)
    assert next((one.value, one.rows) for one in word.top) == ("a", 2)


def test_keys_are_single_columns_or_else_pairs(tmp_path: Path) -> None:
    rows = [(shop, number) for shop in range(4) for number in range(5)]
    pair = profile_file(_file(tmp_path, "pair.csv", shop=[a for a, _ in rows], number=[b for _, b in rows], same=["x"] * 20))
    single = profile_file(_file(tmp_path, "single.csv", name=[f"n{n}" for n in range(20)], order_id=list(range(20))))
    assert [key.columns for key in pair.profile.keys] == [("shop", "number")]
    assert single.profile.keys[0].columns == ("order_id",)
    (order_id,) = (node for node in single.draft["schema"][0]["properties"] if node["name"] == "order_id")
    assert order_id["primaryKey"] is True


def test_a_declared_key_that_rows_do_not_keep_is_none() -> None:
    fields = [Field("id", "postgres", "bigint", "bigint"), Field("shop", "postgres", "text", "text")]
    rows = [Batch(fields, [pa.array(range(20)), pa.array([shop] * 20)], 20) for shop in ("eu", "us")]
    found = profile_batches(rows, Known("orders", "two tables", key=("id",)))
    kept = profile_batches(rows[:1], Known("orders", "one table", key=("id",)))
    assert [key.columns for key in found.profile.keys] == [("id", "shop")]
    assert (kept.profile.keys[0].columns, kept.profile.keys[0].declared) == (("id",), True)


def test_a_column_that_never_is_behind_another_becomes_a_condition(tmp_path: Path) -> None:
    begins = [f"2024-01-{day:02}" for day in range(1, 21)]
    ends = [f"2024-01-{day + 3:02}" for day in range(1, 21)]
    found = profile_file(_file(tmp_path, "spans.csv", starts_at=begins, ends_at=ends, n=["x"] * 20))
    assert [rule["query"] for rule in found.draft["schema"][0]["quality"]] == ['"starts_at" < "ends_at"']


def test_values_of_columns_that_look_sensitive_are_nowhere(tmp_path: Path) -> None:
    phones = [f"+49 30 1234{n:04}" for n in range(40)]
    ibans = ["DE89370400440532013000", "GB82WEST12345698765432"] * 20
    file = _file(tmp_path, "people.csv", n=list(range(40)), mail=EMAILS, phone=phones, iban=ibans, card=CARDS, surname=["Miller"] * 40,
                 remark=[*["fine"] * 38, "call bo@example.org", "call ann@example.org"])  # fmt: skip
    out, html = tmp_path / "draft.odcs.yaml", tmp_path / "page.html"
    ended = sluice("profile", "--data", file, "--out", out, "--html", html, "--json")
    told = ended.out + ended.err + out.read_text() + html.read_text()
    assert ended.code == 0
    for secret in ("someone1", "1234 0001", "12340001", "DE8937", "4111", "5500000", "Miller", "bo@example", "ann@example"):
        assert secret not in told, secret
    contract = load_contract(out)
    hidden = {prop.name for prop in contract.properties if prop.sensitive}
    assert hidden == {"mail", "phone", "iban", "card", "surname", "remark"}
    assert run_contract_test(out, file).success


@pytest.mark.parametrize(
    "name,content,said",
    [
        ("empty.csv", b"", "Empty CSV file"),
        ("garbage.csv", b"a,b\n" + bytes(range(128, 256)) + b",1\n", "UTF8"),
        ("garbage.parquet", b"PAR1" + bytes(100), "cannot be read"),
        ("garbage.jsonl", b"{not json}\n", "not a line of JSON"),
        ("surrogate.jsonl", b'{"a": "\\ud800"}\n', "surrogates not allowed"),
        ("twice.csv", b"a,a\n1,2\n", "two columns 'a'"),
        ("wide.csv", ",".join(f"c{n}" for n in range(2001)).encode() + b"\n", "more than 2000 columns"),
        ("text.txt", b"a", "no known suffix"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_name(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    ended = sluice("profile", "--data", file)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert name in ended.err or "two columns" in said


@pytest.mark.parametrize("content", ["a,b\n", "a,b\n1,\n", "a\n\n\n", 'a,b\n,""\n,""\n'], ids=["header", "one row", "one null", "all null"])
def test_hardly_any_data_still_gives_a_sound_draft(tmp_path: Path, content: str) -> None:
    file, out = tmp_path / "little.csv", tmp_path / "little.odcs.yaml"
    file.write_text(content)
    assert sluice("profile", "--data", file, "--out", out).code == 0
    assert sluice("check", out).code == 0
    assert run_contract_test(out, file).success
    assert not any(prop.required or prop.unique for prop in load_contract(out).properties)


def test_values_beyond_all_types_still_give_a_draft_that_holds(tmp_path: Path) -> None:
    far = tmp_path / "far.parquet"
    days = pa.array([2**31 - 1, -(2**31), 0] * 5, pa.date32())
    moments = pa.array([2**55, -(2**55), 0] * 5, pa.timestamp("ms"))
    pa.parquet.write_table(pa.table({"day": days, "at": moments, "big": pa.array([2**64 - 1, 1, 3] * 5, pa.uint64())}), far)
    digits = tmp_path / "digits.jsonl"
    digits.write_text('{"a": 1E+999999999, "b": %s}\n' % ("9" * 500) * 12)
    for file in (far, digits):
        draft = file.with_suffix(".odcs.yaml")
        draft.write_text(profile_file(file).yaml)
        assert run_contract_test(draft, file).passed == run_contract_test(draft, file).rows


def test_no_columns_at_all_are_a_profile_too(tmp_path: Path) -> None:
    file = tmp_path / "nothing.jsonl"
    file.write_text("{}\n{}\n")
    found = profile_file(file)
    assert (found.profile.rows, found.profile.columns) == (2, [])
    assert "properties: []" in found.yaml


def test_a_value_of_many_megabytes_is_read(tmp_path: Path) -> None:
    file = _file(tmp_path, "huge.csv", n=[1, 2], cell=["x" * (40 << 20), "y"])
    found = profile_file(file)
    assert _column(found, "cell").longest == 40 << 20
    assert len(found.yaml) < 5000


def test_a_sample_looks_at_the_first_rows_alone(tmp_path: Path) -> None:
    file = tmp_path / "many.parquet"
    pa.parquet.write_table(pa.table({"n": range(1000)}), file)
    found = sluice("profile", "--data", file, "--sample", 10, "--json").json
    assert (found["rows"], found["sampled"], found["columns"][0]["most"]) == (10, 10, 9)


def test_only_the_draft_goes_to_stdout_and_beside_a_file_stands_its_page(tmp_path: Path) -> None:
    file = _file(tmp_path, "orders.csv", n=list(range(20)), name=["<script>alert(1)</script>"] * 20)
    printed = sluice("profile", "--data", file)
    ended = sluice("profile", "--data", file, "--out", tmp_path / "orders.odcs.yaml")
    assert printed.out.split("\nschema:")[1] == (tmp_path / "orders.odcs.yaml").read_text().split("\nschema:")[1]
    page = (tmp_path / "orders.profile.html").read_text()
    assert str(tmp_path / "orders.profile.html") in ended.out
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    HTMLParser().feed(page)


def test_the_ways_to_ask_are_told_apart(tmp_path: Path) -> None:
    assert sluice("profile").code == 2
    assert sluice("profile", "--dsn", "host=localhost").code == 2
    assert sluice("profile", "pipeline.yaml", "--data", "x.csv").code == 2
    assert sluice("profile", "--dsn", "${NOBODY_SETS_THIS}", "--table", "t").code == 2
    away = sluice("profile", "--dsn", f"postgresql://bo:{PASSWORD}@127.0.0.1:1/x", "--table", "t")
    assert away.code == 2
    assert PASSWORD not in away.err
    assert "process list" in away.err
    hidden = sluice("profile", "--dsn", "host=127.0.0.1 port=1 password=${SHOP_PASSWORD}", "--table", "t", SHOP_PASSWORD=PASSWORD)
    assert (hidden.code, "process list" in hidden.err, PASSWORD in hidden.err) == (2, False, False)


def test_a_table_of_a_server_is_profiled_and_its_draft_holds_at_the_gate(database18: Database, tmp_path: Path) -> None:
    database18.execute(
        'CREATE TABLE "Odd name" ("select" bigint PRIMARY KEY, email text, price numeric, fee numeric(8,2), born date, at timestamptz, '
        "clock time, u uuid, doc jsonb, list int[], raw bytea, ip inet, digits text, flag boolean, inf timestamptz)",
        "INSERT INTO \"Odd name\" SELECT n, 'p' || n || '@example.org', n / 3.0, n, date '2024-01-01' + n, now(), '10:00', "
        "gen_random_uuid(), '{\"a\": 1}', ARRAY[n], '\\x00ff', '10.0.0.1', n::text, n % 2 = 0, 'infinity' FROM generate_series(1, 50) n",
    )
    out = tmp_path / "odd.odcs.yaml"
    ended = sluice("profile", "--dsn", "${SHOP_DSN}", "--table", 'public."Odd name"', "--out", out, SHOP_DSN=database18.dsn)
    assert ended.code == 0, ended.err
    assert PASSWORD not in ended.out + out.read_text()
    contract = load_contract(out)
    assert contract.key == ("select",)
    assert contract.columns["digits"].logical_type == "integer"
    table = OneTable(database18.dsn, 'public."Odd name"')
    gate = Gate(contract, table.schema)
    passed: list[bool] = []
    table.read(lambda batch: passed.extend(gate.judge(batch).passed.tolist()))
    assert passed == [True] * 50


def test_what_is_not_there_or_not_allowed_is_told_with_the_grant(database18: Database) -> None:
    role = f"reader_of_{database18.name}"
    database18.execute("CREATE TABLE orders (id int)", f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    try:
        dsn = f"{database18.dsn} user={role} password={PASSWORD}"
        refused = sluice("profile", "--dsn", dsn, "--table", "orders")
        missing = sluice("profile", "--dsn", database18.dsn, "--table", "public.order")
    finally:
        database18.execute(f"DROP ROLE {role}")
    assert (refused.code, missing.code) == (2, 2)
    assert f'GRANT SELECT ON public.orders TO "{role}"' in refused.err
    assert "did you mean public.orders?" in missing.err


def test_a_dataset_of_a_pipeline_is_read_at_its_source_before_the_first_run(database18: Database, make_pipeline: MakePipeline) -> None:
    database18.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, note text)", "INSERT INTO orders SELECT n, 'x' FROM generate_series(1, 30) n"
    )
    pipeline = make_pipeline(
        "pipeline: shop\nstate: .sluice\nsources:\n"
        f'  portal: {{type: postgres, dsn: "{database18.dsn}", tables: ["public.*"]}}\n'
        "sinks:\n  warehouse: {type: duckdb, path: warehouse.duckdb}\n"
    )
    ended = sluice("profile", pipeline.file, "--dataset", "orders", "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    assert (found["rows"], found["keys"][0]) == (30, {"columns": ["id"], "declared": True})
    assert sluice("profile", pipeline.file, "--dataset", "ordres").code == 2


def test_a_stream_is_profiled_by_what_its_sink_holds(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(json.dumps({"id": n, "name": f"n{n}"}) + "\n" for n in range(20)))
    (tmp_path / "c.odcs.yaml").write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nid: c\nversion: 1.0.0\nstatus: active\nschema:\n  - name: things\n    properties:\n"
        "      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true}\n"
        "      - {name: name, logicalType: string, physicalType: text, classification: confidential}\n"
    )
    pipeline = make_pipeline(
        f"pipeline: drops\nstate: .sluice\nsources:\n  drop: {{type: files, path: '{folder}', pattern: '*.jsonl', format: json}}\n"
        f"datasets:\n  things: {{from: [{{source: drop}}], contract: '{tmp_path / 'c.odcs.yaml'}'}}\n"
        "sinks:\n  warehouse: {type: duckdb, path: warehouse.duckdb}\n"
    )
    assert sluice("profile", pipeline.file).code == 2
    pipeline.sync()
    found = sluice("profile", pipeline.file, "--json")
    assert found.code == 0, found.err
    assert found.json["rows"] == 20
    assert found.json["columns"][1]["sensitive"].startswith("the dataset's contract")
    assert "n1" not in json.dumps(found.json["columns"][1])


def test_a_signal_leaves_no_rows_behind(tmp_path: Path) -> None:
    fifo, held = tmp_path / "slow.jsonl", tmp_path / "held"
    held.mkdir()
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "cli", "profile", "--data", str(fifo)]
    with subprocess.Popen(command, env=os.environ | {"TMPDIR": str(held)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: list(held.glob("sluice-profile-*")), message="a folder for the rows")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert not list(held.iterdir())
