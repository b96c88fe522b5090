"""Random rules over hostile frames, for comparing the kernels with Great Expectations."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from tests.kernel_values import BOUNDS, CONDITIONS, DAY, FORMATS, REGEXES, SCHEMAS, TYPES, UTC, VALUES

Rule = tuple[str, dict[str, Any]]

NUMBERS = ("ints", "small", "huge", "floats", "tame", "money", "fine", "flags")
ANY = tuple(VALUES)


class Writer:
    """Writes random rules. Each method that is named after an expectation gives its arguments."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def rule(self, kind: str) -> Rule:
        arguments = (ARGUMENTS.get(kind) or SET_ARGUMENTS[kind])(self)
        if kind in MOSTLY and self.chance.random() < 0.3:
            arguments["mostly"] = self.chance.choice((0, 0.25, 0.5, 0.75, 0.9, 1))
        if kind in CONDITIONAL | SET_CONDITIONAL and self.chance.random() < 0.25:
            condition, parser = self.chance.choice(CONDITIONS)
            arguments["row_condition"] = condition
            if parser is not None:
                arguments["condition_parser"] = parser
        return kind, arguments

    def one(self, of: Sequence[Any]) -> Any:
        return self.chance.choice(of)

    def some(self, of: Sequence[Any], most: int = 5) -> list[Any]:
        return [self.one(of) for _ in range(self.chance.randint(1, most))]

    def column(self, of: Sequence[str] = ANY) -> dict[str, Any]:
        return {"column": self.one(of)}

    def listed(self, column: str) -> list[Any]:
        """Values of the column's kind, and others."""
        own = [*VALUES[column][1]]
        other = [
            None,
            1,
            1.0,
            True,
            "1",
            "a",
            0.1,
            2.5,
            -0.0,
            "2020-01-31",
            dt.date(2020, 1, 31),
            DAY,
            DAY.replace(tzinfo=UTC),
            2**53 + 1,
            2**70,
            Decimal("0.1"),
        ]
        return [self.one(own if self.chance.random() < 0.7 else other) for _ in range(self.chance.randint(0, 6))]

    def bounds(self, of: Sequence[Any] = BOUNDS) -> dict[str, Any]:
        found: dict[str, Any] = {}
        which = self.chance.random()
        if which < 0.7:
            found["min_value"] = self.one(of)
        if which > 0.3:
            found["max_value"] = self.one(of)
        for name in ("strict_min", "strict_max"):
            if self.chance.random() < 0.3:
                found[name] = True
        return found

    def pair(self) -> dict[str, Any]:
        first = self.one(ANY)
        second = f"{first}_2" if self.chance.random() < 0.6 else self.one(ANY)
        found = {"column_A": first, "column_B": second}
        if self.chance.random() < 0.6:
            found["ignore_row_if"] = self.one(("both_values_are_missing", "either_value_is_missing", "neither"))
        return found

    def many(self, of: Sequence[str] = ANY) -> dict[str, Any]:
        first = self.one(of)
        columns = [first, f"{first}_2"] if self.chance.random() < 0.6 else [self.one(of), self.one(of)]
        if self.chance.random() < 0.3:
            columns.append(self.one(of))
        found: dict[str, Any] = {"column_list": columns}
        if self.chance.random() < 0.6:
            found["ignore_row_if"] = self.one(("all_values_are_missing", "any_value_is_missing", "never"))
        return found

    def in_set(self) -> dict[str, Any]:
        column = self.one(ANY)
        return {"column": column, "value_set": self.listed(column)}

    def pairs_in_set(self) -> dict[str, Any]:
        found = self.pair()
        first, second = (found[name].removesuffix("_2") for name in ("column_A", "column_B"))
        rights = [*self.listed(second), None]
        found["value_pairs_set"] = [[one, self.one(rights)] for one in self.listed(first)]
        return found

    def between(self) -> dict[str, Any]:
        column = self.one((*NUMBERS, *ANY))
        own = [value for value in VALUES[column][1] if isinstance(value, (int, float, dt.date)) and value == value]
        own = [float(value) for value in VALUES[column][1]] if column in ("money", "fine") else own
        return {"column": column, **self.bounds(own if own and self.chance.random() < 0.8 else BOUNDS)}


TEXTUAL = ("texts", "strange", "dates_as_text", "json")

ARGUMENTS: Mapping[str, Callable[[Writer], dict[str, Any]]] = {
    "expect_column_values_to_be_null": Writer.column,
    "expect_column_values_to_not_be_null": Writer.column,
    "expect_column_values_to_be_between": Writer.between,
    "expect_column_value_lengths_to_be_between": lambda w: w.column() | w.bounds((0, 1, 2, 3, 4, 5, 10, "3")),
    "expect_column_value_lengths_to_equal": lambda w: w.column() | {"value": w.one((0, 1, 2, 3, 4, 10, 19, 1.5))},
    "expect_column_values_to_be_in_set": Writer.in_set,
    "expect_column_values_to_not_be_in_set": Writer.in_set,
    "expect_column_pair_values_to_be_in_set": Writer.pairs_in_set,
    "expect_column_values_to_match_regex": lambda w: w.column((*TEXTUAL, *ANY)) | {"regex": w.one(REGEXES)},
    "expect_column_values_to_not_match_regex": lambda w: w.column((*TEXTUAL, *ANY)) | {"regex": w.one(REGEXES)},
    "expect_column_values_to_match_regex_list": lambda w: w.column((*TEXTUAL, *ANY)) | {"regex_list": w.some(REGEXES, 3),
    "match_on": w.one(("any", "all"))},
    "expect_column_values_to_not_match_regex_list": lambda w: w.column((*TEXTUAL, *ANY)) | {"regex_list": w.some(REGEXES, 3)},
    "expect_column_values_to_be_dateutil_parseable": lambda w: w.column((*TEXTUAL, "dates_as_text", "dates_as_text", "ints")),
    "expect_column_values_to_match_strftime_format": lambda w: w.column((*TEXTUAL, "dates_as_text", "dates_as_text",
    "times")) | {"strftime_format": w.one(FORMATS)},
    "expect_column_values_to_be_json_parseable": lambda w: w.column((*ANY, "json", "json", "json")),
    "expect_column_values_to_match_json_schema": lambda w: w.column(("json", "json", "json", "json", "texts",
    "ints")) | {"json_schema": w.one(SCHEMAS)},
    "expect_column_values_to_be_of_type": lambda w: w.column() | {"type_": w.one(TYPES)},
    "expect_column_values_to_be_in_type_list": lambda w: w.column() | {"type_list": w.one((None, w.some(TYPES, 3)))},
    "expect_column_values_to_be_unique": Writer.column,
    "expect_compound_columns_to_be_unique": Writer.many,
    "expect_select_column_values_to_be_unique_within_record": Writer.many,
    "expect_column_values_to_be_increasing": lambda w: w.column() | {"strictly": w.one((None, True, False))},
    "expect_column_values_to_be_decreasing": lambda w: w.column() | {"strictly": w.one((None, True, False))},
    "expect_column_value_z_scores_to_be_less_than": lambda w: w.column() | {"threshold": w.one((0.5, 1, 2, -0.3)),
    "double_sided": w.one((True, False))},
    "expect_column_values_to_not_be_outliers": lambda w: w.column() | w.one(({}, {"method": "std"}, {"multiplier": 0}, {"method": "std",
    "multiplier": 1.0}, {"multiplier": 0.5})),
    "expect_column_pair_values_to_be_equal": Writer.pair,
    "expect_column_pair_values_a_to_be_greater_than_b": lambda w: w.pair() | w.one(({}, {"or_equal": True}, {"or_equal": False})),
    "expect_multicolumn_values_to_be_equal": Writer.many,
    "expect_multicolumn_sum_to_equal": lambda w: w.many(NUMBERS) | {"sum_total": w.one((0, 1, 2, 3, 4, 0.6, 0.2, 5, "2"))},
}  # fmt: skip

# Great Expectations does not look at mostly where it compares the dtype of a column
MOSTLY = frozenset(ARGUMENTS) - {"expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list"}
# Great Expectations cannot combine a condition with pairs in a set: it counts rows that the condition left out. Of JSON schemas
# it is asked twice, the second time about the rows that are JSON, which leaves no room for a condition.
CONDITIONAL = frozenset(ARGUMENTS) - {"expect_column_pair_values_to_be_in_set", "expect_column_values_to_match_json_schema"}

MEASURED = ("ints", "small", "floats", "tame", "money", "flags")
LIMITS: tuple[Any, ...] = (0, 1, 2, 3, 2.5, -1, 0.5, 5, 10, 100, -100, "1")
SHARES: tuple[Any, ...] = (0, 0.25, 0.5, 0.75, 1, "0.5")


def _values(writer: Writer) -> dict[str, Any]:
    column = writer.one([name for name in ANY if name not in ("zoned", "times")])
    own = VALUES[column][1]
    return {"column": column, "value_set": [writer.one(own) for _ in range(writer.chance.randint(1, len(own)))]}


def _quantiles(writer: Writer) -> dict[str, Any]:
    quantiles = sorted(writer.some((0, 0.1, 0.25, 0.5, 0.75, 0.9, 1), 3))
    ranges = [
        sorted(writer.some((-100, -1, 0, 1, 2, 5, 100), 1) * 2)
        if writer.chance.random() < 0.3
        else [writer.one((None, -1, 0)), writer.one((None, 1, 5))]
        for _ in quantiles
    ]
    found: dict[str, Any] = {
        "column": writer.one(("ints", "small", "tame", "money")),
        "quantile_ranges": {"quantiles": quantiles, "value_ranges": ranges},
    }
    if writer.chance.random() < 0.5:
        found["allow_relative_error"] = writer.one((False, "linear", "lower", "higher", "midpoint", "nearest"))
    return found


def _partition(writer: Writer) -> dict[str, Any]:
    found: dict[str, Any] = {"column": writer.one(("ints", "tame", "texts")), "threshold": writer.one((None, 0, 0.1, 0.5, 1, 2))}
    weights = writer.one(([0.5, 0.5], [0.2, 0.3, 0.5], [1.0], [0.0, 1.0]))
    if found["column"] == "texts" or writer.chance.random() < 0.4:
        values = list(dict.fromkeys(VALUES[found["column"]][1]))
        writer.chance.shuffle(values)
        found["partition_object"] = {"values": values[: len(weights)], "weights": weights}
        if writer.chance.random() < 0.5:
            found["tail_weight_holdout"] = writer.one((0.01, 0.1))
        return found
    edges: list[float] = sorted(writer.chance.sample((-10, -1, 0, 1, 2.5, 3, 5, 20), len(weights) + 1))
    if writer.chance.random() < 0.2:
        edges[0] = float("-inf")
    if writer.chance.random() < 0.2:
        edges[-1] = float("inf")
    found["partition_object"] = {"bins": edges, "weights": weights}
    closed = abs(edges[0]) < 100 and abs(edges[-1]) < 100
    if writer.chance.random() < 0.5 and not (abs(edges[0]) > 100 and abs(edges[-1]) > 100):
        found["tail_weight_holdout"] = writer.one((0.01, 0.1))
    elif closed and writer.chance.random() < 0.5:
        found["partition_object"] = {"bins": edges, "weights": [weight * 0.9 for weight in weights], "tail_weights": [0.05, 0.05]}
    if writer.chance.random() < 0.4:
        found["internal_weight_holdout"] = writer.one((0.01, 0.1))
    return found


def _columns(writer: Writer) -> list[str]:
    names = [name for kind in VALUES for name in (kind, f"{kind}_2")]
    if writer.chance.random() < 0.3:
        names.pop(writer.chance.randrange(len(names)))
    if writer.chance.random() < 0.3:
        names.append("other")
    if writer.chance.random() < 0.3:
        writer.chance.shuffle(names)
    return names


SET_ARGUMENTS: Mapping[str, Callable[[Writer], dict[str, Any]]] = {
    "expect_column_min_to_be_between": Writer.between,
    "expect_column_max_to_be_between": Writer.between,
    "expect_column_mean_to_be_between": lambda w: w.column((*MEASURED, "times")) | w.bounds((*LIMITS, DAY)),
    "expect_column_median_to_be_between": lambda w: w.column((*MEASURED, "times")) | w.bounds((*LIMITS, DAY)),
    "expect_column_sum_to_be_between": lambda w: w.column(MEASURED) | w.bounds(LIMITS),
    "expect_column_stdev_to_be_between": lambda w: w.column(MEASURED) | w.bounds(LIMITS),
    "expect_column_unique_value_count_to_be_between": lambda w: w.column() | w.bounds((0, 1, 2, 3, 5, "4")),
    "expect_column_proportion_of_unique_values_to_be_between": lambda w: w.column() | w.bounds(SHARES),
    "expect_column_proportion_of_non_null_values_to_be_between": lambda w: w.column() | w.bounds(SHARES),
    "expect_column_quantile_values_to_be_between": _quantiles,
    "expect_column_distinct_values_to_be_in_set": _values,
    "expect_column_distinct_values_to_contain_set": lambda w: (
        _values(w) | {"value_set": w.listed("ints")} if w.chance.random() < 0.3 else _values(w)
    ),
    "expect_column_distinct_values_to_equal_set": _values,
    "expect_column_most_common_value_to_be_in_set": lambda w: _values(w) | w.one(({}, {"ties_okay": True}, {"ties_okay": False})),
    "expect_column_kl_divergence_to_be_less_than": _partition,
    "expect_table_row_count_to_be_between": lambda w: w.bounds((0, 1, 5, 9, "5")),
    "expect_table_row_count_to_equal": lambda w: {"value": w.one((0, 1, 2, 5, "9"))},
    "expect_table_column_count_to_be_between": lambda w: {
        "min_value": w.one((None, 1, 2 * len(VALUES))),
        "max_value": w.one((None, 1, 100)),
    },
    "expect_table_column_count_to_equal": lambda w: {"value": w.one((1, 2 * len(VALUES)))},
    "expect_table_columns_to_match_ordered_list": lambda w: {"column_list": w.one((None, _columns(w)))},
    "expect_table_columns_to_match_set": lambda w: (
        {"column_set": w.one((None, _columns(w)))} | w.one(({}, {"exact_match": False}, {"exact_match": True}, {"exact_match": None}))
    ),
    "expect_column_to_exist": lambda w: {"column": w.one((*ANY, "other")), "column_index": w.one((None, 0, 1, 2, 4, -1, 99))},
    "expect_column_type_to_be": lambda w: w.column() | {"type_": w.one(TYPES)},
}

SET_CONDITIONAL = frozenset(
    kind
    for kind in SET_ARGUMENTS
    if kind.startswith(("expect_column_m", "expect_column_s", "expect_column_prop", "expect_column_dist", "expect_table_row"))
)
