"""The Kullback-Leibler divergence of a column from an expected distribution, of listed values or over bins."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from quality.column import Column, family
from quality.kernels.arguments import Arguments
from quality.kernels.errors import BadExpectation
from quality.kernels.typed_values import forms
from quality.kernels.verdict import SetVerdict
from quality.kernels.whole import ColumnKernel, column_kernel

_NUMBERS = ("bool", "int", "float", "decimal", "null")


def divergence_kernel(arguments: Arguments) -> ColumnKernel:
    """The divergence is at most `threshold`; without one, anything passes."""
    threshold = arguments.number("threshold", least=0.0)
    tail, internal = _share(arguments, "tail_weight_holdout"), _share(arguments, "internal_weight_holdout")
    bucketize = arguments.flag("bucketize_data", default=True)
    for name in ("min_value", "max_value"):  # taken by Great Expectations, and of no effect there
        arguments.bound(name)
    if arguments.get("partition_object") is None:
        return _of_itself(arguments, threshold, tail, internal, bucketize)
    given = arguments.mapping("partition_object")
    weights = _weights(given.get("weights"))
    values = given.get("values")
    if isinstance(values, list) and len(values) == len(weights) and np.allclose(weights.sum(), 1):
        if internal > 0:
            raise BadExpectation("internal_weight_holdout does not go with listed values", "internal_weight_holdout")
        if tail and "tail_weights" in given:
            raise BadExpectation("tail_weight_holdout does not go with tail_weights", "tail_weight_holdout")
        return column_kernel(arguments, lambda column: _verdict(*_of_values(column, values, weights, tail), threshold))
    bins = _Bins(given, weights, tail, internal)
    if not bucketize:
        raise BadExpectation("bucketize_data cannot be false for a partition of bins", "bucketize_data")

    return column_kernel(arguments, lambda column: _verdict(*bins.of(column), threshold), _numeric)


def _numeric(of: pa.DataType) -> None:
    if family(of) not in _NUMBERS:
        raise BadExpectation(f"a column of type {of} does not fall into bins", "column")


def _of_itself(arguments: Arguments, threshold: float | None, tail: float, internal: float, bucketize: bool) -> ColumnKernel:
    """Without an expected distribution a column is compared with its own, from which it does not diverge."""
    if tail or internal:
        raise BadExpectation("weights can only be held out from a partition_object", "partition_object")

    def judge(column: Column) -> SetVerdict:
        empty = column.missing is not None and bool(column.missing.all())
        return SetVerdict(threshold is None or not (empty or len(column) == 0), None if empty or len(column) == 0 else 0.0)

    return column_kernel(arguments, judge, _numeric if bucketize else lambda of: None)


def _verdict(observed: npt.NDArray[np.float64], expected: npt.NDArray[np.float64], threshold: float | None) -> SetVerdict:
    divergence = _entropy(observed, expected)
    return SetVerdict(threshold is None or divergence <= threshold, divergence if math.isfinite(divergence) else None)


def _entropy(observed: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> float:
    with np.errstate(all="ignore"):
        p, q = observed / observed.sum(), expected / expected.sum()
        terms = np.where(p > 0, np.where(q > 0, p * np.log(p / q), np.inf), np.where(p == 0, np.where(q >= 0, 0.0, np.inf), np.nan))
        return float(terms.sum())


def _share(arguments: Arguments, name: str) -> float:
    value = arguments.number(name, least=0.0, most=1.0)
    return 0.0 if value is None else value


def _weights(given: object) -> npt.NDArray[np.float64]:
    if not isinstance(given, list) or not given or not all(isinstance(one, (int, float)) for one in given):
        raise BadExpectation("partition_object needs weights: a list of numbers", "partition_object")
    return np.array(given, np.float64)


def _of_values(
    column: Column, values: list[object], weights: npt.NDArray[np.float64], tail: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Observed and expected shares, first of the listed values, then of those that occur and are not listed."""
    present = column if column.missing is None else column.where(~column.missing)
    codes, found = present.encoded if column.family != "null" else (np.zeros(0, np.int32), pa.array([], pa.string()))
    counts = np.bincount(codes, minlength=len(found)).astype(np.float64)
    places = {value: at for at, value in enumerate(found.to_pylist()) if counts[at]}
    observed, listed = [], set()
    for value in values:
        at = next((places[form] for form in forms(value, column.type) if form in places), None)
        if at is not None:
            listed.add(at)
        observed.append(counts[at] if at is not None else 0.0)
    others = [counts[at] for at in places.values() if at not in listed]
    expected = weights * (1 - tail) if others else weights
    rest = np.full(len(others), tail / len(others) if others else 0.0)
    return np.array([*observed, *others]) / max(len(present), 1), np.concatenate([expected, rest])


def _edges(given: object) -> object:
    """JSON has no word for an endless bin; some write -Infinity, which YAML reads as text."""
    endless = {"Infinity": math.inf, "-Infinity": -math.inf}
    return [endless.get(one, one) if isinstance(one, str) else one for one in given] if isinstance(given, list) else given


class _Bins:
    """An expected distribution over bins, with what lies below and above them. Raises BadExpectation where it is none."""

    def __init__(self, given: Mapping[str, object], weights: npt.NDArray[np.float64], tail: float, internal: float) -> None:
        edges = _edges(given.get("bins"))
        tails = given.get("tail_weights")
        if not isinstance(edges, list) or len(edges) != len(weights) + 1 or not all(isinstance(one, (int, float)) for one in edges):
            raise BadExpectation("partition_object needs values, or bins with one edge more than there are weights", "partition_object")
        if tails is not None and (
            not isinstance(tails, list) or len(tails) != 2 or not all(isinstance(one, (int, float)) for one in tails)
        ):
            raise BadExpectation("tail_weights must be two numbers", "partition_object")
        self._edges = np.array(edges, np.float64)
        if not np.all(np.diff(self._edges) > 0) or not np.allclose(weights.sum() + sum(tails or ()), 1.0):
            raise BadExpectation("the edges of bins must grow, and the weights must add up to 1", "partition_object")
        self._open = bool(np.isneginf(self._edges[0])), bool(np.isposinf(self._edges[-1]))
        if tail and tails is not None:
            raise BadExpectation("tail_weight_holdout does not go with tail_weights", "tail_weight_holdout")
        if any(self._open) and tails is not None:
            raise BadExpectation("tail_weights do not go with endless bins", "partition_object")
        if all(self._open) and tail:
            raise BadExpectation("tail_weight_holdout does not go with endless bins", "tail_weight_holdout")
        expected = weights * (1 - tail - internal)
        empty = np.flatnonzero(expected == 0)
        if internal > 0 and len(empty):
            expected[empty] = internal / len(empty)
        half = tail / 2 if not any(self._open) else tail
        below, above = (float(one) for one in tails) if tails is not None else (half, half)
        self._expected = self._with_tails(expected, below, above)

    def _with_tails(self, inner: npt.NDArray[np.float64], below: float, above: float) -> npt.NDArray[np.float64]:
        return np.concatenate([[] if self._open[0] else [below], inner, [] if self._open[1] else [above]])

    def of(self, column: Column) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Observed and expected shares of the bins and of what lies outside them."""
        values = column.doubles if column.family != "null" else np.zeros(0)
        values = values[~np.isnan(values)]
        count = max(len(values), 1)
        inside, _ = np.histogram(values, self._edges)
        below, above = np.count_nonzero(values < self._edges[0]), np.count_nonzero(values > self._edges[-1])
        return self._with_tails(inside / count, below / count, above / count), self._expected
