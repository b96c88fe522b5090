"""What a contract's own words ask of rows (required, minimum, pattern, a set of values, no duplicates), over whole columns.

All of them leave missing values alone, except those that are about missing values. Each has the shape of the kernels for
expectations: `columns`, `engine`, and `judge(frame) -> RowVerdict`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from quality.column import Column
from quality.differing import all_differ
from quality.frame import Frame
from quality.kernels.verdict import RowVerdict
from quality.logical_types import Judged
from quality.reading import read_values

Mask = npt.NDArray[np.bool_]
Value = str | int | float | bool


class UnfitValueError(ValueError):
    """A value in a contract cannot be compared with the column that it is about."""


class Check:
    """A rule over rows. `passes` gives bool[rows] for the columns; what it says of missing values counts only `with_missing`."""

    engine = "arrow"

    def __init__(
        self, columns: Sequence[str], passes: Callable[[Sequence[Column]], Mask], *, mostly: float = 1.0, with_missing: bool = False
    ) -> None:
        self.columns = tuple(columns)
        self.mostly = mostly
        self._passes = passes
        self._with_missing = with_missing

    def judge(self, frame: Frame) -> RowVerdict:
        columns = [frame.column(name) for name in self.columns]
        left_out = frame.skipped(self.columns)
        for column in () if self._with_missing else columns:
            if column.missing is not None:
                left_out = column.missing if left_out is None else left_out | column.missing
        if left_out is None:
            return RowVerdict.of(frame.rows, ~self._passes(columns), self.mostly)
        evaluated = frame.rows - int(np.count_nonzero(left_out))
        failed = ~(self._passes(columns) | left_out) if evaluated else np.zeros(frame.rows, np.bool_)
        return RowVerdict.of(evaluated, failed, self.mostly)

    def also(self, other: Check) -> Check:
        """Both checks, of the same columns, as one."""
        return Check(self.columns, lambda found: self._passes(found) & other._passes(found), mostly=self.mostly)


class OfType:
    """The value is of the type that the contract says. `shape` is what the text must look like where the type is held as text."""

    engine = "arrow"

    def __init__(self, column: str, *, whole: bool = False, shape: str | None = None) -> None:
        self.columns = (column,)
        self._whole = whole
        self._shape = shape

    def judge(self, frame: Frame) -> RowVerdict:
        column = frame.column(self.columns[0])
        failed = frame.malformed.get(self.columns[0], np.zeros(frame.rows, np.bool_)).copy()
        asked = failed.copy() if column.missing is None else failed | ~column.missing
        if column.missing is None:
            asked[:] = True
        absent = frame.absent.get(self.columns[0])
        if absent is not None:
            asked &= ~absent
        if self._whole and column.family == "decimal":
            failed |= _filled(pc.not_equal(pc.trunc(column.array), column.array), False)
        if self._shape is not None:
            failed |= ~_filled(pc.match_substring_regex(column.array, self._shape), True)
        return RowVerdict.of(int(np.count_nonzero(asked)), failed & asked, 1.0)


def not_null(column: str, mostly: float = 1.0) -> Check:
    """There is a value. NaN is one, as it is for a database."""
    return Check((column,), lambda found: np.asarray(pc.is_valid(found[0].array)), mostly=mostly, with_missing=True)


def not_missing(column: str, words: Sequence[Value | None], mostly: float = 1.0) -> Check:
    """The value is none of those that stand for a missing one. Words that no value of the column's type can equal are idle."""

    def passes(found: Sequence[Column]) -> Mask:
        array = found[0].array
        missing = _among(array, words) | (np.asarray(pc.is_null(array)) & (None in words))
        return ~missing

    return Check((column,), passes, mostly=mostly, with_missing=True)


def one_of(column: str, allowed: Sequence[Value | None], mostly: float = 1.0) -> Check:
    """The value is in the set. Typed: the text "1" is not the number 1."""

    def passes(found: Sequence[Column]) -> Mask:
        return _among(found[0].array, allowed)

    return Check((column,), passes, mostly=mostly)


def check_values(values: Sequence[Value | None], of: pa.DataType) -> None:
    """Raises UnfitValueError for a value that no value of the type can equal."""
    _values(values, of, strict=True)


def as_values(words: Sequence[Value], of: pa.DataType) -> pa.Array:
    """The words as values of a type, with which it can be compared; null for one that no value of it can equal."""
    found = [_value(word, of) for word in words]
    made = pa.array([None if value is None else value.as_py() for value in found], of)
    return _plain_zero(made)


def places_among(array: pa.Array, values: pa.Array) -> npt.NDArray[np.int64]:
    """int64[n]: which of the values (see `as_values`) each one is; their number where it is none of them, or null."""
    index = pc.index_in(_plain_zero(array), value_set=values, skip_nulls=True)
    return np.asarray(pc.fill_null(index, len(values))).astype(np.int64)


def _plain_zero(array: pa.Array) -> pa.Array:
    """-0.0 as 0.0, which Arrow tells apart."""
    return pc.add(array, pa.scalar(0.0, array.type)) if pa.types.is_floating(array.type) else array


def no_duplicates(columns: Sequence[str], mostly: float = 1.0) -> Check:
    """No two rows have the same values; every copy fails. Rows that lack one of the values are left alone, as by a database."""

    def passes(found: Sequence[Column]) -> Mask:
        if all_differ(found):
            return np.ones(len(found[0]), np.bool_)
        codes = np.zeros(len(found[0]), np.int64)
        whole = np.ones(len(codes), np.bool_)
        for column in found:
            own, distinct = column.encoded
            whole &= own >= 0
            codes = codes * (len(distinct) + 1) + own
            codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
        counts = np.bincount(codes[whole], minlength=int(codes.max(initial=0)) + 1)
        return ~whole | (counts[codes] < 2)

    return Check(columns, passes, mostly=mostly)


def within(column: str, limit: Value, holds: Judged, *, upper: bool, exclusive: bool) -> Check:
    """The value is on the right side of a limit: a number, or a date or time as text. Raises UnfitValueError."""
    bound: Decimal | pa.Scalar
    if holds.family in ("integer", "number"):
        bound = _number(limit)
    else:
        read = read_values(pa.array([str(limit)]), holds)
        if read.malformed.any():
            raise UnfitValueError(f"{limit!r} is not a {holds.family}")
        bound = read.values[0]

    def passes(found: Sequence[Column]) -> Mask:
        array = found[0].array
        if isinstance(bound, Decimal):
            return _compared(array, bound, upper=upper, exclusive=exclusive)
        compare = _COMPARE[upper, exclusive]
        if not pa.types.is_time(array.type):  # dates and timestamps, with and without zone, are instants in UTC
            if pa.types.is_timestamp(array.type) and array.type.unit == "ns":  # a part of a microsecond is on no other side of a limit
                array = pc.floor_temporal(array, unit="microsecond")
            array = array.cast(pa.timestamp("us", "UTC") if array.type != pa.date32() else pa.timestamp("us")).cast(pa.int64())
            return _filled(compare(array, _instant(bound)), True)
        return _filled(compare(array, bound.cast(array.type)), True)

    return Check((column,), passes)


_COMPARE = {(True, False): pc.less_equal, (True, True): pc.less, (False, False): pc.greater_equal, (False, True): pc.greater}


def _instant(moment: pa.Scalar) -> pa.Scalar:
    naive = moment.cast(pa.timestamp("us")) if pa.types.is_date(moment.type) else moment
    return naive.cast(pa.timestamp("us", "UTC")).cast(pa.int64())


def _compared(array: pa.Array, limit: Decimal, *, upper: bool, exclusive: bool) -> Mask:
    """Exactly: a whole number is compared with the whole number that decides, a decimal with a decimal."""
    if not limit.is_finite():
        raise UnfitValueError(f"{limit} is no limit")
    if pa.types.is_integer(array.type):
        if upper:
            decisive = math.ceil(limit) - 1 if exclusive else math.floor(limit)
        else:
            decisive = math.floor(limit) + 1 if exclusive else math.ceil(limit)
        wide = pa.uint64() if pa.types.is_uint64(array.type) else pa.int64()
        least, beyond = (0, 2**64) if pa.types.is_uint64(array.type) else (-(2**63), 2**63)
        if not least <= decisive < beyond:
            return np.full(len(array), (decisive > 0) == upper)
        return _filled(_COMPARE[upper, False](array.cast(wide), pa.scalar(decisive, wide)), True)
    if pa.types.is_decimal(array.type):
        wide = array.cast(pa.decimal256(76, max(array.type.scale, min(-int(limit.as_tuple().exponent), 30), 0)))
        return _filled(_COMPARE[upper, exclusive](wide, pa.scalar(limit).cast(wide.type)), True)
    return _filled(_COMPARE[upper, exclusive](array, pa.scalar(float(limit), pa.float64())), True)


def multiple_of(column: str, step: Value) -> Check:
    """The value is a multiple; of floating point to within a billionth."""
    size = _number(step)

    def passes(found: Sequence[Column]) -> Mask:
        array = found[0].array
        if pa.types.is_floating(array.type):
            quotient = found[0].doubles / float(size)
            return np.asarray(np.abs(quotient - np.round(quotient)) <= 1e-9 * np.maximum(1.0, np.abs(quotient)))
        if pa.types.is_integer(array.type) and size == int(size):
            return np.asarray(np.remainder(found[0].numbers, int(size)) == 0)
        codes, distinct = found[0].encoded
        fits = np.array([value is None or Decimal(value) % size == 0 for value in distinct.to_pylist()] or [True])
        return np.asarray(fits[np.maximum(codes, 0)])

    return Check((column,), passes)


def length_within(column: str, *, least: int = 0, most: int | None = None) -> Check:
    """The text has as many characters."""

    def passes(found: Sequence[Column]) -> Mask:
        length = np.asarray(pc.fill_null(pc.utf8_length(found[0].texts), least))
        return (length >= least) & (length <= most if most is not None else True)

    return Check((column,), passes)


def matching(column: str, matches: Callable[[pa.Array], Mask], mostly: float = 1.0) -> Check:
    """The text fits; `matches` says so of a string array (see quality.patterns)."""
    return Check((column,), lambda found: matches(found[0].texts), mostly=mostly)


def _number(value: Value) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnfitValueError(f"{value!r} is not a number")
    return Decimal(repr(value))


def _filled(flags: pa.BooleanArray | pa.ChunkedArray, missing: bool) -> Mask:
    return np.asarray(pc.fill_null(flags, missing))


def _among(array: pa.Array, words: Sequence[Value | None]) -> Mask:
    """bool[n]: where an array has one of the words."""
    known = _plain_zero(_values(words, array.type, strict=False))
    return _filled(pc.is_in(_plain_zero(array), value_set=known), False)


def _values(words: Sequence[Value | None], of: pa.DataType, *, strict: bool) -> pa.Array:
    """The words as values of an Arrow type. Those that cannot be are left out, or (strict) refused."""
    found: list[pa.Scalar] = []
    for word in words:
        if word is None:
            continue
        value = _value(word, of)
        if value is not None:
            found.append(value)
        elif strict:
            raise UnfitValueError(f"{word!r} can never be a value of this column, which holds {of}")
    return pa.array([value.as_py() for value in found], of)


def _value(word: Value, of: pa.DataType) -> pa.Scalar | None:
    kinds = pa.types
    try:
        if kinds.is_boolean(of):
            return pa.scalar(word, of) if isinstance(word, bool) else None
        if kinds.is_integer(of) or kinds.is_floating(of) or kinds.is_decimal(of):
            if isinstance(word, bool) or not isinstance(word, int | float) or (kinds.is_integer(of) and word != int(word)):
                return None
            return pa.scalar(Decimal(repr(word))).cast(of) if kinds.is_decimal(of) else pa.scalar(word).cast(of)
        if not isinstance(word, str):
            return None
        if kinds.is_temporal(of):
            held = Judged("time" if kinds.is_time(of) else "timestamp", "", of if kinds.is_time(of) else pa.timestamp("us", "UTC"))
            read = read_values(pa.array([word]), held)
            if read.malformed.any():
                return None
            naive = read.values if kinds.is_time(of) or getattr(of, "tz", None) else read.values.cast(pa.timestamp("us"))
            return naive.cast(of)[0]
        return pa.scalar(word.encode() if kinds.is_binary(of) or kinds.is_large_binary(of) else word, of)
    except (pa.ArrowInvalid, OverflowError):
        return None
