"""What each kernel costs a row, beside Great Expectations on the same batches: `python -m benchmarks.kernels [--rows N] [--without-gx]`."""

from __future__ import annotations

import argparse
import datetime as dt
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from quality.frame import Frame
from quality.kernels import RowKernel, compile_expectation
from quality.kernels.gx import Reference, Refusal

RULES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("expect_column_values_to_not_be_null", {"column": "id"}),
    ("expect_column_values_to_be_null", {"column": "nothing"}),
    ("expect_column_values_to_be_between", {"column": "id", "min_value": 0, "max_value": 10**9}),
    ("expect_column_values_to_be_between", {"column": "amount", "min_value": 0, "max_value": 10**7}),
    ("expect_column_values_to_be_between", {"column": "price", "min_value": 0, "max_value": 1}),
    ("expect_column_values_to_be_between", {"column": "at", "min_value": "2020-01-01T00:00:00Z"}),
    ("expect_column_value_lengths_to_be_between", {"column": "email", "min_value": 3, "max_value": 254}),
    ("expect_column_value_lengths_to_equal", {"column": "currency", "value": 3}),
    ("expect_column_values_to_be_in_set", {"column": "currency", "value_set": ["EUR", "USD", "GBP", "CHF"]}),
    ("expect_column_values_to_be_in_set", {"column": "small", "value_set": list(range(10))}),
    ("expect_column_values_to_not_be_in_set", {"column": "currency", "value_set": ["XXX"]}),
    (
        "expect_column_pair_values_to_be_in_set",
        {"column_A": "currency", "column_B": "country", "value_pairs_set": [["EUR", "DE"], ["USD", "US"]]},
    ),
    ("expect_column_values_to_match_regex", {"column": "currency", "regex": "^[A-Z]{3}$"}),
    ("expect_column_values_to_match_regex", {"column": "code", "regex": r"^[A-Z]{2}-\d{6}$"}),
    ("expect_column_values_to_match_regex", {"column": "email", "regex": r"^[^@\s]+@[^@\s]+\.[a-z]+$"}),
    ("expect_column_values_to_match_regex", {"column": "name", "regex": r"^\w+ \w+$"}),
    ("expect_column_values_to_not_match_regex", {"column": "code", "regex": "x"}),
    ("expect_column_values_to_match_regex_list", {"column": "currency", "regex_list": ["^EUR$", "^[A-Z]{3}$"]}),
    ("expect_column_values_to_not_match_regex_list", {"column": "currency", "regex_list": ["^eur$", "^$"]}),
    ("expect_column_values_to_match_like_pattern", {"column": "code", "like_pattern": "__-%"}),
    ("expect_column_values_to_not_match_like_pattern", {"column": "code", "like_pattern": "x%"}),
    ("expect_column_values_to_match_like_pattern_list", {"column": "code", "like_pattern_list": ["A%", "%"]}),
    ("expect_column_values_to_not_match_like_pattern_list", {"column": "code", "like_pattern_list": ["x%", "%x"]}),
    ("expect_column_values_to_be_dateutil_parseable", {"column": "written"}),
    ("expect_column_values_to_match_strftime_format", {"column": "day", "strftime_format": "%Y-%m-%d"}),
    ("expect_column_values_to_be_json_parseable", {"column": "json"}),
    ("expect_column_values_to_match_json_schema", {"column": "json", "json_schema": {"required": ["id"]}}),
    ("expect_column_values_to_be_of_type", {"column": "id", "type_": "int64"}),
    ("expect_column_values_to_be_in_type_list", {"column": "id", "type_list": ["int64", "str"]}),
    ("expect_column_values_to_be_unique", {"column": "id"}),
    ("expect_column_values_to_be_unique", {"column": "email"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["id", "currency"]}),
    ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["email", "code", "currency"]}),
    ("expect_column_values_to_be_increasing", {"column": "id"}),
    ("expect_column_values_to_be_decreasing", {"column": "down"}),
    ("expect_column_value_z_scores_to_be_less_than", {"column": "price", "threshold": 4, "double_sided": True}),
    ("expect_column_values_to_not_be_outliers", {"column": "price"}),
    ("expect_column_pair_values_to_be_equal", {"column_A": "id", "column_B": "same"}),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "until", "column_B": "at"}),
    ("expect_multicolumn_values_to_be_equal", {"column_list": ["id", "same", "again"]}),
    ("expect_multicolumn_sum_to_equal", {"column_list": ["up", "down"], "sum_total": 0}),
    (
        "expect_column_values_to_be_between",
        {"column": "id", "min_value": 0, "row_condition": "currency == 'EUR' and small > 2", "condition_parser": "pandas"},
    ),
)


def made(rows: int) -> Frame:
    """A batch in which no rule is violated."""
    chance = np.random.default_rng(7)
    numbers = np.arange(rows)
    start = np.datetime64("2024-01-01T00:00:00", "us").astype(np.int64)
    days = (start + chance.integers(0, 365, rows) * 86_400_000_000).astype("datetime64[us]")
    money = pa.array(chance.integers(0, 10**9, rows)).cast(pa.decimal128(20, 0))
    which = chance.integers(0, 2, rows)
    columns: dict[str, pa.Array] = {
        "id": pa.array(numbers),
        "same": pa.array(numbers),
        "again": pa.array(numbers),
        "up": pa.array(numbers),
        "down": pa.array(-numbers),
        "small": pa.array(chance.integers(0, 10, rows)),
        "nothing": pa.nulls(rows, pa.string()),
        "amount": pa.Array.from_buffers(pa.decimal128(20, 2), rows, money.buffers()),
        "price": pa.array(chance.random(rows)),
        "at": pa.array(days).cast(pa.timestamp("us", "UTC")),
        "until": pa.array(days + np.timedelta64(1, "h")).cast(pa.timestamp("us", "UTC")),
        "currency": pa.array(np.array(["EUR", "USD"])[which]),
        "country": pa.array(np.array(["DE", "US"])[which]),
        "email": pa.array([f"user{number}@example{number % 97}.com" for number in numbers]),
        "code": pa.array([f"AB-{number % 10**6:06d}" for number in numbers]),
        "name": pa.array([f"Zoé Nº{number % 1000}".replace("Nº", "Ü") for number in numbers]),
        "written": pa.array([f"{day}Z" for day in days.astype("datetime64[s]")]),
        "day": pa.array([str(day) for day in days.astype("datetime64[D]")]),
        "json": pa.array([f'{{"id": {number}, "lines": [1, 2]}}' for number in numbers]),
    }
    return Frame(columns, rows)


def nanoseconds(run: Callable[[], object], rows: int, seconds: float = 0.2) -> float:
    """The best time of several runs, per row."""
    best, until = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() > until:
            return best / rows * 1e9


def main() -> None:
    """Prints a line per rule: ns per row of the kernel with nothing known about the batch, and of Great Expectations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--without-gx", action="store_true")
    options = parser.parse_args()
    frame = made(options.rows)
    types = {name: array.type for name, array in frame.columns.items()}
    reference = None if options.without_gx else Reference()
    print(f"{options.rows} rows, no violations, {dt.date.today()}; ns per row\n")
    print(f"{'expectation':58} {'columns':26} {'engine':7} {'kernel':>8} {'GX':>9} {'GX/kernel':>9}")
    for kind, arguments in RULES:
        kernel: Any = compile_expectation(kind, arguments, types)
        assert kernel.judge(frame).success, kind
        ours = nanoseconds(lambda kernel=kernel: _fresh(kernel, frame), options.rows)  # type: ignore[misc]  # bound at once
        line = f"{kind:58} {','.join(kernel.columns):26} {kernel.engine:7} {ours:8.1f}"
        if reference is not None:
            start = time.perf_counter()
            [theirs] = reference.judge(frame, [(kind, arguments)])
            taken = (time.perf_counter() - start) / options.rows * 1e9
            line += f" {'-':>9}" if isinstance(theirs, Refusal) else f" {taken:9.0f} {taken / ours:8.0f}x"
        print(line, flush=True)


def _fresh(kernel: RowKernel, frame: Frame) -> object:
    """Judges the batch as if it was just seen: nothing is remembered of its columns."""
    return kernel.judge(Frame(frame.columns, frame.rows))


if __name__ == "__main__":
    main()
