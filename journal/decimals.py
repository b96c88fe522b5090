"""Exact decimals for `numeric` without a precision: the narrowest decimal type that holds a whole column of Postgres' text.

Arrow and DuckDB hold 38 digits. A batch of prices needs few of them, so the scale is chosen from what the batch holds, and the
numbers stay exact: 0.1 + 0.2 is 0.3. What does not fit (NaN, infinities, hundreds of digits) is malformed here.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.types import TypedColumn

DIGITS = 38
NARROW = 18  # digits that fit 64 bits, with which DuckDB computes fastest


def exact_decimals(text: pa.StringArray, likely: pa.DataType | None = None) -> TypedColumn:
    """Casts decimal text (no exponent) to decimal128, the scale being the longest fraction that occurs in the column.

    `likely` is a type to try first, such as that of the column's last batch: a wider scale is as exact.
    """
    if likely is not None:
        try:
            return TypedColumn(text.cast(likely), np.zeros(len(text), np.bool_))
        except pa.ArrowInvalid:
            pass  # it needs another
    point = np.asarray(pc.fill_null(pc.find_substring(text, "."), -1))
    length = np.asarray(pc.fill_null(pc.binary_length(text), 0))
    signs = np.asarray(pc.fill_null(pc.starts_with(text, "-"), False))
    known = np.asarray(pc.fill_null(pc.match_substring_regex(text, r"^-?\d+(\.\d+)?$"), True))
    fraction = np.where(point >= 0, length - point - 1, 0)
    whole = np.where(point >= 0, point, length) - signs
    fits = known & (whole + fraction <= DIGITS)
    scale = int(fraction[fits].max(initial=0))
    fits &= whole + scale <= DIGITS
    precision = NARROW if int(whole[fits].max(initial=0)) + scale <= NARROW else DIGITS
    kept = text if fits.all() else pc.if_else(pa.array(fits), text, None)
    return TypedColumn(kept.cast(pa.decimal128(precision, scale)), ~fits)
