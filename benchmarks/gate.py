"""The gate beside Great Expectations, ten rules over batches as they come from Postgres: `python -m benchmarks.gate [--without-gx]`.

Three figures: how many times as fast the gate is on 1,000 rows and on 100,000, and what a rule that nothing breaks costs a row. The
gate's time holds everything: it reads Postgres' text too. Great Expectations is given finished pandas frames.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from ruamel.yaml import YAML

from journal.batch import ChangeBatch, Op, batch_from_columns
from journal.schema import Column, TableSchema
from journal.types import typed
from quality.contract import Contract
from quality.contract_reading import load_contract
from quality.frame import Frame
from quality.gate import Gate
from quality.kernels.gx import Reference, Refusal

TYPES: Mapping[str, str] = {
    "id": "bigint",
    "email": "text",
    "currency": "character(3)",
    "country": "text",
    "code": "text",
    "quantity": "integer",
    "amount": "numeric(12,2)",
    "price": "double precision",
    "starts_at": "timestamp with time zone",
    "ends_at": "timestamp with time zone",
}
RULES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("expect_column_values_to_not_be_null", {"column": "id"}),
    ("expect_column_values_to_match_regex", {"column": "email", "regex": r"^[^@\s]+@[^@\s]+\.[a-z]+$"}),
    ("expect_column_values_to_be_in_set", {"column": "currency", "value_set": ["EUR", "USD", "GBP", "CHF"]}),
    ("expect_column_value_lengths_to_equal", {"column": "country", "value": 2}),
    ("expect_column_values_to_match_regex", {"column": "code", "regex": r"^[A-Z]{2}-\d{6}$"}),
    ("expect_column_values_to_be_between", {"column": "quantity", "min_value": 1, "max_value": 1000}),
    ("expect_column_values_to_be_between", {"column": "amount", "min_value": 0, "max_value": 10**7}),
    ("expect_column_values_to_be_between", {"column": "price", "min_value": 0, "max_value": 1}),
    ("expect_column_values_to_be_between", {"column": "starts_at", "min_value": "2020-01-01T00:00:00Z"}),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "ends_at", "column_B": "starts_at"}),
)
_LOGICAL = {
    "bigint": "integer",
    "integer": "integer",
    "numeric(12,2)": "number",
    "double precision": "number",
    "timestamp with time zone": "timestamp",
}
_SIZES = (1_000, 100_000)


def contract(folder: Path) -> Contract:
    """The ten rules, as an owner writes them."""
    properties = [{"name": name, "logicalType": _LOGICAL.get(kind, "string"), "physicalType": kind} for name, kind in TYPES.items()]
    rules = [
        {"id": f"r{n}", "type": "custom", "engine": "greatExpectations", "implementation": {"type": kind, "kwargs": dict(kwargs)}}
        for n, (kind, kwargs) in enumerate(RULES)
    ]
    head = {"apiVersion": "v3.1.0", "kind": "DataContract", "id": "orders", "version": "1.0.0", "status": "active"}
    file = folder / "orders.odcs.yaml"
    YAML(typ="safe", pure=True).dump({**head, "schema": [{"name": "orders", "properties": properties, "quality": rules}]}, file)
    return load_contract(file)


def made(rows: int) -> ChangeBatch:
    """Inserts in which no rule is violated, as Postgres writes them."""
    chance = np.random.default_rng(7)
    start = np.datetime64("2024-01-01T00:00:00", "s") + chance.integers(0, 31_536_000, rows)
    numbers = np.arange(rows)
    columns = {
        "id": pa.array(numbers).cast(pa.string()),
        "email": pa.array([f"user{number}@example{number % 97}.com" for number in numbers]),
        "currency": pa.array(np.array(["EUR", "USD"])[chance.integers(0, 2, rows)]),
        "country": pa.array(np.array(["DE", "US"])[chance.integers(0, 2, rows)]),
        "code": pa.array([f"AB-{number % 10**6:06d}" for number in numbers]),
        "quantity": pa.array(chance.integers(1, 1000, rows)).cast(pa.string()),
        "amount": pa.array([f"{cents / 100:.2f}" for cents in chance.integers(0, 10**9, rows)]),
        "price": pa.array(chance.random(rows)).cast(pa.string()),
        "starts_at": pa.array([str(at).replace("T", " ") + "+00" for at in start]),
        "ends_at": pa.array([str(at + np.timedelta64(1, "h")).replace("T", " ") + "+00" for at in start]),
    }
    schema = TableSchema("orders", tuple(Column(name, kind) for name, kind in TYPES.items()), ("id",))
    return batch_from_columns(schema, [columns[name] for name in TYPES], Op.INSERT)


def seconds(run: Callable[[], object], patience: float) -> float:
    """The best of several runs."""
    best, until = float("inf"), time.perf_counter() + patience
    while True:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() > until:
            return best


def main() -> None:
    """Prints the three figures, with the load of the machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without-gx", action="store_true")
    parser.add_argument("--seconds", type=float, default=1.0, help="patience with each measurement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rules = contract(Path(folder))
    batches = {rows: made(rows) for rows in _SIZES}
    gate = Gate(rules, batches[_SIZES[0]].schema)
    print(f"ten rules, no violations, {dt.date.today()}, load {os.getloadavg()[0]:.1f}")
    ours = {}
    for rows, batch in batches.items():
        assert gate.judge(batch).passed.all()
        ours[rows] = seconds(lambda batch=batch: gate.judge(batch), options.seconds)  # type: ignore[misc]  # bound at once
    if not options.without_gx:
        reference = Reference()
        for rows, batch in batches.items():
            frame = Frame({name: typed(batch.column(name), kind).values for name, kind in TYPES.items()}, rows)
            answers = reference.judge(frame, RULES)
            assert not any(isinstance(answer, Refusal) or not answer.success for answer in answers), answers
            theirs = seconds(lambda frame=frame: reference.judge(frame, RULES), options.seconds)  # type: ignore[misc]  # bound at once
            said = f"gate {ours[rows] * 1e3:8.2f} ms, Great Expectations {theirs * 1e3:8.1f} ms"
            print(f"batches of {rows:7,} rows: {said}: {theirs / ours[rows]:6.0f}x")
    each = ours[_SIZES[1]] / _SIZES[1] / len(RULES) * 1e9
    print(f"a rule that nothing breaks: {each:.1f} ns per row (batches of {_SIZES[1]:,})")


if __name__ == "__main__":
    main()
