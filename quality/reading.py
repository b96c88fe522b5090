"""Free text, as people and files write values, read as the types of a contract.

Stricter than most readers, and nothing is guessed: a text either is a value of the type, or it is malformed.

    integer     12, -3, +4, 5.0                     number   1.5, -2e10, NaN, Infinity
    boolean     true t yes y on 1, and their opposites; any case
    date        2024-01-31; where a column also holds times of day, its values are timestamps
    timestamp   2024-01-31T12:00:00.5+02:00 with T or a space, with or without zone, seconds and fraction; no zone means UTC
    time        12:30, 12:30:00.5                   object, array   JSON
"""

from __future__ import annotations

from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.duckdb_session import session
from journal.types import TypedColumn, parse_type
from quality.logical_types import Judged
from quality.moment_format import NEVER, NEVER_VALUE, MomentFormat

Mask = npt.NDArray[np.bool_]

UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_CLOCK = r"\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?"
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_MOMENT = rf"^\d{{4}}-\d{{2}}-\d{{2}}([T ]{_CLOCK}(Z|[+-]\d{{2}}(:?\d{{2}})?)?)?$"
_TRUE, _FALSE = r"(?i)^(true|t|yes|y|on|1)$", r"(?i)^(false|f|no|n|off|0)$"
_UTC = ("UTC", "Etc/UTC", "GMT", "Z")
_NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:nan|inf|infinity))$"


def read_values(text: pa.StringArray, as_type: Judged, *, by: MomentFormat | None = None, zone: str = "UTC") -> TypedColumn:
    """Reads texts as the type; malformed ones are null in the values. `by` and `zone` are for dates and times alone."""
    match as_type.family:
        case "integer":
            return _integers(text)
        case "number":
            return _numbers(text, as_type)
        case "boolean":
            true = pc.match_substring_regex(text, _TRUE)
            known = pc.or_(true, pc.match_substring_regex(text, _FALSE))
            return TypedColumn(pc.if_else(known, true, None), _not(known))
        case "date" | "timestamp" | "time":
            return _moments(text, as_type, by, zone)
        case "json" | "array":
            return _documents(text, "OBJECT" if as_type.family == "json" and as_type.logical else None, as_type)
        case "uuid":
            return _matching(text, UUID)
        case _:
            return TypedColumn(text, np.zeros(len(text), np.bool_))


def _not(fits: pa.BooleanArray) -> Mask:
    """bool[n]: there is a value, and it does not fit."""
    return ~np.asarray(pc.fill_null(fits, True))


def _matching(text: pa.StringArray, pattern: str) -> TypedColumn:
    malformed = _not(pc.match_substring_regex(text, pattern))
    return TypedColumn(pc.if_else(pa.array(malformed), None, text) if malformed.any() else text, malformed)


def _integers(text: pa.StringArray) -> TypedColumn:
    known = _matching(text, r"^[+-]?\d{1,76}(\.0+)?$")
    digits = pc.replace_substring_regex(known.values, r"^\+|\.0+$", "")
    for target in (pa.int64(), pa.decimal128(38, 0), pa.decimal256(76, 0)):
        try:
            return TypedColumn(digits.cast(target), known.malformed)
        except pa.ArrowInvalid:
            continue
    raise AssertionError("76 digits fit 76 digits")


def _numbers(text: pa.StringArray, as_type: Judged) -> TypedColumn:
    known = _matching(text, _NUMBER)
    plain = pc.replace_substring_regex(known.values, r"^\+", "")
    if pa.types.is_floating(as_type.arrow):
        return TypedColumn(plain.cast(as_type.arrow), known.malformed)
    whole, scale = _digits(as_type.postgres)
    fits = _matching(_trimmed(plain), rf"^-?\d{{0,{whole}}}(\.\d{{0,{scale}}})?$")
    return TypedColumn(fits.values.cast(as_type.arrow), known.malformed | fits.malformed)


def _digits(numeric: str) -> tuple[int, int]:
    """Digits before and after the point of numeric(p,s)."""
    precision, scale = (*parse_type(numeric).args, 0)[:2]
    return precision - scale, scale


def _trimmed(numbers: pa.StringArray) -> pa.StringArray:
    """Without exponents, zeros that lead, and zeros that trail behind a point."""
    if pc.any(pc.match_substring_regex(numbers, "[eE]"), min_count=0).as_py():
        numbers = pa.array([v if v is None or "e" not in v.lower() else f"{Decimal(v):f}" for v in numbers.to_pylist()], pa.string())
    return pc.replace_substring_regex(pc.replace_substring_regex(numbers, r"(\.\d*?)0+$", r"\1"), r"^(-?)0+(\d)", r"\1\2")


def _moments(text: pa.StringArray, as_type: Judged, by: MomentFormat | None, zone: str) -> TypedColumn:
    if by is not None:
        found = by.read(text)
        if not by.zoned:
            found = TypedColumn(_placed(found.values.cast(pa.timestamp("us")), zone), found.malformed)
    elif as_type.family == "time":
        found = _instants(_matching(text, rf"^{_CLOCK}$"), "'1970-01-01 ' || written")
    else:
        zoned = pc.fill_null(pc.match_substring_regex(text, r":.*(Z|[+-]\d{2}(:?\d{2})?)$"), True)
        found = _instants(_matching(text, _MOMENT), "written")
        if zone not in _UTC and not pc.all(zoned, min_count=0).as_py():
            found = TypedColumn(pc.if_else(zoned, found.values, _placed(found.values.cast(pa.timestamp("us")), zone)), found.malformed)
    naive = found.values.cast(pa.timestamp("us"))
    if as_type.family == "date":
        midnights = pc.all(pc.equal(pc.floor_temporal(naive, unit="day"), naive), min_count=0).as_py()
        return TypedColumn(naive.cast(pa.date32()) if midnights else naive, found.malformed)
    if as_type.family == "time":
        return TypedColumn(naive.cast(pa.time64("us")), found.malformed)
    return TypedColumn(found.values.cast(as_type.arrow), found.malformed)


def _instants(known: TypedColumn, written: str) -> TypedColumn:
    """Microseconds since 1970, in UTC; DuckDB knows the calendar."""
    text = pc.replace_substring_regex(known.values, r"([+-]\d{2})(\d{2})$", r"\1:\2")
    table = pa.table({"written": text})
    if len(text) == 0:
        return TypedColumn(pa.array([], pa.timestamp("us", "UTC")), known.malformed)
    micros = session().prepare(table.schema, f"coalesce(epoch_us(TRY_CAST({written} AS TIMESTAMPTZ)), {NEVER})").run(table)
    values = pa.array(micros, pa.int64(), mask=micros == NEVER_VALUE).cast(pa.timestamp("us", "UTC"))
    return TypedColumn(values, known.malformed | ((micros == NEVER_VALUE) & np.asarray(pc.is_valid(text))))


def _placed(naive: pa.TimestampArray, zone: str) -> pa.TimestampArray:
    """Local times as instants in UTC; a time that the zone skips or has twice is the earlier one."""
    if zone in _UTC:
        return naive.cast(pa.timestamp("us", "UTC"))
    return pc.assume_timezone(naive, str(ZoneInfo(zone)), ambiguous="earliest", nonexistent="earliest").cast(pa.timestamp("us", "UTC"))


def _documents(text: pa.StringArray, kind: str | None, as_type: Judged) -> TypedColumn:
    wanted = "ARRAY" if as_type.family == "array" else kind
    test = (
        "json_valid(written)"
        if wanted is None
        else f"CASE WHEN json_valid(written) THEN json_type(written) = '{wanted}' ELSE written IS NULL END"
    )
    table = pa.table({"written": text})
    fits = session().prepare(table.schema, f"coalesce({test}, written IS NULL)").run(table) if len(text) else np.zeros(0, np.bool_)
    malformed = ~fits.astype(np.bool_)
    return TypedColumn(pc.if_else(pa.array(malformed), None, text) if malformed.any() else text, malformed)
