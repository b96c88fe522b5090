"""`check`, `schema`, `new pipeline` and `contract test`: what can be told without any server."""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.document import read_document
from tests.invoking import sluice

ROOT = Path(__file__).parents[1]

CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: shop-orders
version: 1.0.0
status: active
schema:
  - name: orders
    properties:
      - {name: order_id, logicalType: integer, physicalType: bigint, primaryKey: true, required: true}
      - {name: region, logicalType: string}
      - name: amount
        logicalType: number
        physicalType: numeric(12,2)
    quality:
      - {id: amount-positive, type: sql, query: amount > 0, mustBe: true}
      - {id: enough, metric: rowCount, mustBeGreaterThan: 2}
"""

PIPELINE = """\
pipeline: shop
sources:
  portal:
    type: postgres
    dsn: host=localhost password=hunter2
    tables: [public.orders]
datasets:
  orders:
    from: portal.public.orders
    key: [order_id]
    contract: orders.odcs.yaml
sinks:
  warehouse: {type: duckdb, path: w.duckdb}
  eu:
    type: duckdb
    path: eu.duckdb
    datasets:
      orders:
        where: region = 'EU' AND amount > 5
        columns: {amount: cast(double precision)}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a sound pipeline file and its contract."""
    (tmp_path / "orders.odcs.yaml").write_text(CONTRACT)
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    return tmp_path


def test_a_sound_pipeline_is_told_with_its_rules_and_what_evaluates_them(folder: Path) -> None:
    done = sluice("check", folder / "pipeline.yaml")
    assert (done.code, done.err) == (0, "")
    assert "a sound pipeline" in done.out
    (line,) = [line for line in done.out.splitlines() if line.startswith("amount-positive")]
    assert line.split()[1:4] == ["amount", ">", "0"]
    assert "quarantine" in line
    assert "note: orders: enough look" in done.out
    assert "hunter2" not in done.out


def test_the_json_answer_explains_every_rule(folder: Path) -> None:
    answer = sluice("check", folder / "pipeline.yaml", "--json").json
    assert (answer["kind"], answer["ok"], answer["problems"], answer["pipeline"]) == ("pipeline", True, [], "shop")
    rules = {rule["id"]: rule for rule in answer["contracts"]["orders"]["rules"]}
    assert 0 < rules["amount-positive"]["ns_per_row"] < 1_000_000
    assert rules["amount-positive"] | {"engine": "any", "ns_per_row": 1} == {
        "id": "amount-positive",
        "kind": "sql",
        "column": "amount",
        "columns": ["amount"],
        "scope": "row",
        "engine": "any",
        "ns_per_row": 1,
        "where": "the gate, each row",
        "action": "quarantine",
        "on": ["insert", "update"],
        "mostly": 1.0,
        "severity": None,
        "says": "amount > 0",
        "generated": False,
        "line": 15,
    }
    assert rules["enough"]["scope"] == "set"
    assert rules["order_id-required-1"]["generated"] is True


def test_a_contract_is_known_by_what_is_in_it(folder: Path) -> None:
    done = sluice("check", folder / "orders.odcs.yaml")
    assert done.code == 0
    assert "a sound contract" in done.out
    assert sluice("check", folder / "orders.odcs.yaml", "--json").json["kind"] == "contract"
    (folder / "other.yaml").write_text("apiVersion: v1\nkind: Pod\n")
    assert "apiVersion v1" in sluice("check", folder / "other.yaml").out


def test_everything_that_is_wrong_is_told_at_once_pipeline_contract_and_routes(folder: Path) -> None:
    (folder / "orders.odcs.yaml").write_text(CONTRACT.replace("query: amount > 0", "query: amonut > 0"))
    text = PIPELINE.replace("path: w.duckdb", "pth: w.duckdb").replace("region = 'EU' AND amount > 5", "region = = 'EU'")
    (folder / "pipeline.yaml").write_text(text)
    done = sluice("check", folder / "pipeline.yaml")
    assert (done.code, done.err) == (1, "")
    assert f"{folder}/pipeline.yaml:13: unknown key `pth` in `sinks.warehouse`" in done.out
    assert f"{folder}/orders.odcs.yaml:15: " in done.out
    assert "amonut" in done.out
    assert f"{folder}/pipeline.yaml:19: sink `eu`, dataset `orders`: `where`" in done.out
    problems = sluice("check", folder / "pipeline.yaml", "--json").json["problems"]
    assert {Path(problem["file"]).name for problem in problems} == {"pipeline.yaml", "orders.odcs.yaml"}


_ROUTE_MISTAKES = {
    "a column that is not there": ("amount: cast(double precision)", "amuont: drop", 20, "'amuont'", "did you mean amount?"),
    "an action that is none": ("amount: cast(double precision)", "amount: hide", 20, "'hide'", "drop"),
    "a key that is dropped": ("amount: cast(double precision)", "order_id: drop", 20, "key column", "mask(hash)"),
    "a filter on a column that is not there": ("region = 'EU' AND amount > 5", "regoin = 'EU'", 19, "regoin", "region"),
    "a filter that compares what cannot be": ("region = 'EU' AND amount > 5", "amount > region", 19, "`where`", ""),
    "a key that the contract lacks": ("key: [order_id]", "key: [order]", 10, "no column 'order'", "order_id"),
}


@pytest.mark.parametrize("mistake", _ROUTE_MISTAKES)
def test_names_are_checked_against_the_contract(mistake: str, folder: Path) -> None:
    old, new, line, message, hint = _ROUTE_MISTAKES[mistake]
    (folder / "pipeline.yaml").write_text(PIPELINE.replace(old, new))
    done = sluice("check", folder / "pipeline.yaml", "--json")
    assert done.code == 1
    found = [problem for problem in done.json["problems"] if message in problem["message"]]
    assert found, done.json["problems"]
    assert found[0]["line"] == line
    assert hint in (found[0]["hint"] or "")


def test_without_a_contract_only_the_shape_of_routes_is_checked(folder: Path) -> None:
    text = PIPELINE.replace("    contract: orders.odcs.yaml\n", "")
    (folder / "pipeline.yaml").write_text(text)
    assert sluice("check", folder / "pipeline.yaml").code == 0
    (folder / "pipeline.yaml").write_text(text.replace("amount > 5", "amount >").replace("double precision", "money"))
    found = sluice("check", folder / "pipeline.yaml", "--json").json["problems"]
    assert [problem["line"] for problem in found] == [18, 19]


def test_a_contract_of_another_dataset_is_worth_a_note(folder: Path) -> None:
    (folder / "orders.odcs.yaml").write_text(CONTRACT.replace("name: orders", "name: invoices"))
    done = sluice("check", folder / "pipeline.yaml")
    assert done.code == 0
    assert "is written for `invoices`" in done.out


def test_what_cannot_be_read_ends_with_2_and_what_is_no_yaml_with_1(tmp_path: Path) -> None:
    assert sluice("check", tmp_path / "none.yaml").code == 2
    assert sluice("check", tmp_path).code == 2
    (tmp_path / "p.yaml").write_text("a: 1\n\tb: 2\n")
    done = sluice("check", tmp_path / "p.yaml")
    assert done.code == 1
    assert f"{tmp_path}/p.yaml:2: not valid YAML" in done.out
    (tmp_path / "p.yaml").write_text("")
    done = sluice("check", tmp_path / "p.yaml", "--json")
    assert (done.code, done.json["ok"], done.json["problems"][0]["message"]) == (1, False, "the file is empty")
    done = sluice("check", tmp_path / "none.yaml", "--json")
    assert (done.code, done.json["ok"]) == (2, False)


def test_contracts_are_named_as_the_pipeline_file_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "orders.odcs.yaml").write_text(CONTRACT.replace("query: amount > 0", "query: amonut > 0"))
    monkeypatch.chdir(folder)
    assert sluice("check", "pipeline.yaml").out.startswith("orders.odcs.yaml:15: ")
    assert sluice("check", folder / "pipeline.yaml").out.startswith(f"{folder}/orders.odcs.yaml:15: ")
    monkeypatch.chdir(folder.parent)
    assert sluice("check", f"{folder.name}/pipeline.yaml").out.startswith(f"{folder.name}/orders.odcs.yaml:15: ")


def test_the_schema_takes_what_loads_and_refuses_what_does_not() -> None:
    schema = sluice("schema").json
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    for file in (*ROOT.glob("examples/*/pipeline.yaml"), *ROOT.glob("cli/scaffold/*/pipeline.yaml")):
        validator.validate(read_document(file, fill=False).content)
    good = {"pipeline": "p", "sources": {"a": {"type": "postgres", "dsn": "x", "tables": "public.*", "create": "${CREATE}"}}, "sinks": {}}
    for sinks, sound in (
        ({"w": {"type": "duckdb", "path": "w.duckdb"}}, True),
        ({"w": {"type": "duckdb", "path": "w.duckdb", "datasets": ["orders"]}}, True),
        ({"w": {"type": "duckdb", "path": "w.duckdb", "datasets": {"orders": {"mode": "history"}, "b": None}}}, True),
        ({"w": {"type": "duckdb", "path": "w.duckdb", "datasets": {"orders": {"mode": "both"}}}}, False),
        ({"w": {"type": "duckdb", "pth": "w.duckdb"}}, False),
        ({"w": {"type": "dukdb", "path": "w.duckdb"}}, False),
        ({"w": {"path": "w.duckdb"}}, False),
        ({}, False),
    ):
        assert validator.is_valid({**good, "sinks": sinks}) is sound, sinks
    sound_sinks = {"w": {"type": "duckdb", "path": "w.duckdb"}}
    assert not validator.is_valid({**good, "sinks": sound_sinks, "ownr": "x"})
    assert not validator.is_valid({**good, "sinks": sound_sinks, "monitoring": {"port": "http"}})
    assert validator.is_valid({**good, "sinks": sound_sinks, "monitoring": {"port": "${PORT:-9100}"}})


def test_every_key_is_explained_in_the_schema() -> None:
    def silent(node: object, path: str) -> list[str]:
        if isinstance(node, list):
            return [found for n, item in enumerate(node) for found in silent(item, f"{path}/{n}")]
        if not isinstance(node, dict):
            return []
        found = []
        for name, child in (node.get("properties") or {}).items():
            if isinstance(child, dict) and not {"description", "$ref", "const", "enum"} & child.keys():
                found.append(f"{path}/{name}")
        return found + [hit for key, child in node.items() for hit in silent(child, f"{path}/{key}")]

    assert silent(sluice("schema").json, "") == []


def test_a_new_pipeline_is_sound_at_once_and_its_own_tests_pass(tmp_path: Path) -> None:
    done = sluice("new", "pipeline", "shop", "--dir", tmp_path)
    assert done.code == 0
    assert sluice("check", tmp_path / "shop" / "pipeline.yaml").code == 0
    assert {path.name for path in (tmp_path / "shop").iterdir()} == {
        "pipeline.yaml", "contracts", "samples", "README.md", "test_pipeline.py", ".gitignore",
    }  # fmt: skip
    assert "NAME" not in (tmp_path / "shop" / "pipeline.yaml").read_text()
    tested = subprocess.run([sys.executable, "-m", "unittest"], cwd=tmp_path / "shop", capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "Ran 3 tests" in tested.stderr


def test_a_new_pipeline_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "mine").write_text("mine")
    done = sluice("new", "pipeline", "shop", "--dir", tmp_path)
    assert done.code == 2
    assert "is there already" in done.err
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["mine"]
    for name in ("../shop", "a b", "", "ö"):
        assert sluice("new", "pipeline", name, "--dir", tmp_path).code == 2


_STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**30, "", "x", "a.b", "ö" * 70, "public.*", "drop", "SELECT 1", "2020-01-01", [], {}, [1], ["x", "x"],
    {"a": 1}, {"type": "postgres"}, {"from": "x"}, "expect_column_values_to_be_between",
)  # fmt: skip
_STRANGE_KEYS = ("x", "type", "key", "where", "columns", "quality", "mustBe", "from", "datasets")


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*path, key)
        yield from _places(child, (*path, key))


def _spoilt(content: Any, chance: random.Random) -> Any:
    """The content with one to three places replaced, taken out, or put under another key."""
    spoilt = copy.deepcopy(content)
    for _ in range(chance.randint(1, 3)):
        *way, last = chance.choice(list(_places(spoilt)))
        holder = spoilt
        for step in way:
            holder = holder[step]
        strange = copy.deepcopy(chance.choice(_STRANGE))
        match chance.choice(["replace", "replace", "remove", "move"]):
            case "replace":
                holder[last] = strange
            case "remove":
                del holder[last]
            case _ if isinstance(holder, dict):
                holder[chance.choice(_STRANGE_KEYS)] = holder.pop(last)
            case _:
                holder.insert(0, strange)
        if not spoilt:
            break
    return spoilt


def test_whatever_is_written_check_finds_words_for_it(folder: Path) -> None:
    environment = {"PORTAL_DSN": "host=a", "EU_DSN": "host=b", "US_DSN": "host=c", "KAFKA": "127.0.0.1:1"}
    shutil.copytree(ROOT / "examples" / "commerce", folder / "commerce")
    pipeline, contract = folder / "commerce" / "pipeline.yaml", folder / "commerce" / "contracts" / "orders.odcs.yaml"
    whole = {file: read_document(file, environment).content if file == pipeline else read_document(file, fill=False).content
             for file in (pipeline, contract)}  # fmt: skip
    chance = random.Random(20)
    for turn in range(40):
        for file, content in whole.items():
            file.write_text(json.dumps(content if (turn % 2 == 0) is (file == contract) else _spoilt(content, chance)))
        done = sluice("check", pipeline, "--json", **environment)
        assert done.code in (0, 1), done.err
        assert all(problem["message"] for problem in done.json["problems"])
        assert (done.code == 0) is done.json["ok"] is (not done.json["problems"])


_ROWS = "order_id,region,amount\n1,EU,1.00\n2,US,-1\n3,EU,\n"


def test_a_contract_judges_a_file(folder: Path) -> None:
    (folder / "rows.csv").write_text(_ROWS)
    done = sluice("contract", "test", folder / "orders.odcs.yaml", "--data", folder / "rows.csv", "--json")
    assert done.code == 1
    assert (done.json["rows"], done.json["passed"]) == (3, 2)
    rules = {rule["id"]: rule for rule in done.json["rules"]}
    assert (rules["amount-positive"]["failed"], rules["amount-positive"]["rows"]) == (1, [1])
    assert rules["enough"]["success"] is True
    shown = sluice("contract", "test", folder / "orders.odcs.yaml", "--data", folder / "rows.csv")
    assert shown.code == 1
    assert "2 of 3 rows pass; the contract is broken" in shown.out
    (folder / "rows.csv").write_text(_ROWS.replace("-1", "1"))
    assert sluice("contract", "test", folder / "orders.odcs.yaml", "--data", folder / "rows.csv").code == 0


def test_a_contract_that_is_not_sound_or_data_that_is_not_there_ends_with_2(folder: Path) -> None:
    assert sluice("contract", "test", folder / "orders.odcs.yaml", "--data", folder / "none.csv").code == 2
    (folder / "rows.csv").write_text(_ROWS)
    (folder / "orders.odcs.yaml").write_text(CONTRACT.replace("query: amount > 0", "query: amonut > 0"))
    done = sluice("contract", "test", folder / "orders.odcs.yaml", "--data", folder / "rows.csv", "--json")
    assert (done.code, done.out) == (2, "")
    assert "orders.odcs.yaml:15: " in done.err


def test_an_answer_in_json_is_all_that_is_on_stdout(folder: Path) -> None:
    (folder / "rows.csv").write_text("order_id,region\n1,EU\n2,US\n4,EU\n")
    command = [sys.executable, "-m", "cli", "contract", "test", "orders.odcs.yaml", "--data", "rows.csv", "--json", "-v"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["rows"] == 3
    assert "the file has no column 'amount'" in done.stderr


def test_each_rule_is_explained_with_its_engine_its_scope_and_what_it_costs_here(folder: Path) -> None:
    rules = {one["id"]: one for one in sluice("check", folder / "orders.odcs.yaml", "--json").json["contracts"]["orders"]["rules"]}
    positive = rules["amount-positive"]
    told = {name: positive[name] for name in ("columns", "action", "on", "engine", "scope")}
    assert told == {"columns": ["amount"], "action": "quarantine", "on": ["insert", "update"], "engine": "arrow", "scope": "row"}
    assert positive["ns_per_row"] > 0
    skipped = sluice("check", folder / "orders.odcs.yaml", "--no-measure", "--json").json["contracts"]["orders"]["rules"]
    assert all(one["ns_per_row"] is None for one in skipped)
    assert "ns/row" in sluice("check", folder / "orders.odcs.yaml").out
