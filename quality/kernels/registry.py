"""Every expectation that a contract can name, and what judges it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping

import pyarrow as pa

from quality.kernels import (
    distributions,
    formats,
    kinds,
    likes,
    membership,
    nulls,
    order,
    pairs,
    queries,
    ranges,
    regexes,
    spread,
    statistics,
    tables,
    uniqueness,
)
from quality.kernels.arguments import Arguments
from quality.kernels.errors import BadExpectation, UnknownExpectation
from quality.kernels.rule import RowKernel
from quality.kernels.whole import SetKernel

ROW_EXPECTATIONS: Mapping[str, Callable[[Arguments], RowKernel]] = {
    **nulls.OFFERED,
    **ranges.OFFERED,
    **membership.OFFERED,
    **regexes.OFFERED,
    **likes.OFFERED,
    **formats.OFFERED,
    **kinds.OFFERED,
    **uniqueness.OFFERED,
    **order.OFFERED,
    **spread.OFFERED,
    **pairs.OFFERED,
}

SET_EXPECTATIONS: Mapping[str, Callable[[Arguments], SetKernel]] = {
    **statistics.OFFERED,
    **distributions.OFFERED,
    **tables.OFFERED,
    **queries.OFFERED,
}

REFUSED: Mapping[str, str] = {
    "expect_table_row_count_to_equal_other_table": "it needs another table, and a dataset is judged by itself",
    "expect_query_results_to_match_comparison": "it needs another data source, and a dataset is judged by itself",
}


def snake_name(kind: str) -> str:
    """The name of an expectation as Great Expectations registers it, also where the name of its class is given."""
    if "_" in kind:
        return kind
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()


def compile_expectation(kind: str, kwargs: Mapping[str, object], types: Mapping[str, pa.DataType] | None) -> RowKernel | SetKernel:
    """What judges an expectation of Great Expectations, for columns of these types, or of types that are yet to be seen.

    `kind` is its name, as in `expect_column_values_to_be_between` or `ExpectColumnValuesToBeBetween`. Raises UnknownExpectation
    for a name that is none, and BadExpectation for arguments that it does not take or that do not go with the types.
    """
    name = snake_name(kind)
    if name in REFUSED:
        raise BadExpectation(f"{name} cannot be judged: {REFUSED[name]}")
    build = ROW_EXPECTATIONS.get(name) or SET_EXPECTATIONS.get(name)
    if build is None:
        known = [*ROW_EXPECTATIONS, *SET_EXPECTATIONS]
        raise UnknownExpectation(kind, tuple(difflib.get_close_matches(name, known, n=3, cutoff=0.5)))
    arguments = Arguments(name, kwargs)
    kernel = build(arguments)
    arguments.finish()
    if types is not None:
        kernel.prepare(types)
    return kernel
