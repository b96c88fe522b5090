"""From DuckDB's types to Postgres' text: what a map gives, as a column of the type that its dataset says.

Nothing is rounded or cut on the way: a value that its column cannot hold exactly becomes UNFIT, and its row is a bad one. Text is read
strictly by whatever type its column has, so that a map needs no casts.
"""

from __future__ import annotations

from dataclasses import dataclass

from journal.types import PgType, parse_type

UNFIT = "\0"
"""Stands for a value that its column cannot hold. No text of Postgres has it."""

_WHOLE = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"})
_FLOATS = frozenset({"FLOAT", "DOUBLE"})
_MOMENTS = frozenset({"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE"})
_INTEGERS = {"smallint": "SMALLINT", "integer": "INTEGER", "bigint": "BIGINT", "oid": "UINTEGER"}
_TEXTS = frozenset({"text", "character varying", "character", "name", "citext", "xml"})
_DIGITS = 38  # of DuckDB's widest decimal

_NATURAL = {
    "BOOLEAN": "boolean", "TINYINT": "smallint", "SMALLINT": "smallint", "UTINYINT": "smallint", "INTEGER": "integer",
    "USMALLINT": "integer", "BIGINT": "bigint", "UINTEGER": "bigint", "HUGEINT": "numeric", "UBIGINT": "numeric", "UHUGEINT": "numeric",
    "DECIMAL": "numeric", "FLOAT": "real", "DOUBLE": "double precision", "DATE": "date", "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMP_S": "timestamp without time zone", "TIMESTAMP_MS": "timestamp without time zone",
    "TIMESTAMP_NS": "timestamp without time zone", "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "TIME": "time without time zone", "UUID": "uuid", "BLOB": "bytea", "JSON": "jsonb", "STRUCT": "jsonb", "LIST": "jsonb", "MAP": "jsonb",
    "VARCHAR": "text", "ENUM": "text", "NULL": "text",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Conversion:
    """SQL for a value as Postgres' text. Where it is `strict`, UNFIT stands for what the column cannot hold."""

    sql: str
    strict: bool = False


def natural_type(held: str) -> str | None:
    """The Postgres type of a column that holds all values of a DuckDB type; None where there is none."""
    return _NATURAL.get(_family(held)[0])


def same_text(source: str, target: str) -> bool:
    """Whether every value of one Postgres type is written alike in the other, and fits it."""
    a, b = _type(source), _type(target)
    if a is None or b is None or a == b:
        return source == target or (a is not None and a == b)
    if a.array or b.array:
        return False
    rank = {"smallint": 1, "integer": 2, "bigint": 3, "numeric": 4}
    if a.base in rank and b.base in rank and not b.args:
        return rank[a.base] <= rank[b.base]
    lengthy = {"text", "character varying"}
    return a.base in lengthy and b.base in lengthy and not b.args


def conversion(held: str, target: str, value: str) -> Conversion | None:
    """How a value of the DuckDB type `held` becomes text of the Postgres type `target`; None where types do not go together.

    `value` is SQL, and may be written several times.
    """
    family, args = _family(held)
    if family == "NULL":
        return Conversion(f"CAST({value} AS VARCHAR)")  # evaluated all the same: it may be error('…')
    kind = _type(target)
    if family == "ENUM":
        family, value = "VARCHAR", f"CAST({value} AS VARCHAR)"
    if kind is None or kind.array:
        return _checked(value, f"NOT contains({value}, chr(0))", value) if family == "VARCHAR" else None
    if family == "VARCHAR":
        return _from_text(kind, value)
    if kind.base in _TEXTS or kind.base == '"char"':
        return _to_text(family, kind, value)
    if kind.base in ("json", "jsonb"):
        return _to_json(family, value)
    if family in _WHOLE or family == "DECIMAL":
        return _from_exact(family, args, kind, value)
    if family in _FLOATS:
        return _from_float(family, kind, value)
    if family == "DATE" or family in _MOMENTS:
        return _from_moment(family, kind, value)
    plain = {"BOOLEAN": "boolean", "TIME": "time without time zone", "UUID": "uuid", "BLOB": "bytea"}
    return Conversion(_words(family, value)) if plain.get(family) == kind.base and not kind.args else None


def _type(text: str) -> PgType | None:
    try:
        return parse_type(text)
    except ValueError:
        return None


def _family(held: str) -> tuple[str, tuple[int, ...]]:
    if held.endswith("]"):
        return "LIST", ()
    name, _, rest = held.strip('"').partition("(")
    args = tuple(int(part) for part in rest.rstrip(")").split(",")) if name == "DECIMAL" and rest else ()
    return name, args


def _checked(value: str, test: str, text: str) -> Conversion:
    return Conversion(f"CASE WHEN {value} IS NULL THEN NULL WHEN {test} THEN {text} ELSE chr(0) END", strict=True)


def _words(family: str, value: str) -> str:
    """A value as Postgres writes one of the type that is natural to it."""
    text = f"CAST({value} AS VARCHAR)"
    if family == "BOOLEAN":
        return f"CASE WHEN {value} THEN 't' WHEN NOT {value} THEN 'f' END"
    if family in _FLOATS:
        return _float_words(family, value)
    if family == "DATE" or family in _MOMENTS:
        return f"CASE WHEN contains({text}, ' (BC)') THEN replace({text}, ' (BC)', '') || ' BC' ELSE {text} END"
    return rf"'\x' || lower(hex({value}))" if family == "BLOB" else text


def _float_words(family: str, value: str) -> str:
    """Postgres leaves a point without digits behind it out, and writes an exponent from 1e15 (of a real: 1e6) on; DuckDB from 1e16 on."""
    text = f"CAST({value} AS VARCHAR)"
    digits = f"rtrim(replace(split_part(ltrim({text}, '-'), 'e', 1), '.', ''), '0')"
    point = f"strpos(ltrim({text}, '-'), '.') - 2"
    mantissa = f"{digits}[1] || CASE WHEN length({digits}) > 1 THEN '.' || {digits}[2:] ELSE '' END"
    scientific = f"CASE WHEN {value} < 0 THEN '-' ELSE '' END || {mantissa} || 'e+' || lpad(CAST({point} AS VARCHAR), 2, '0')"
    return (
        f"CASE WHEN isnan({value}) THEN 'NaN' WHEN isinf({value}) THEN CASE WHEN {value} > 0 THEN 'Infinity' ELSE '-Infinity' END"
        f" WHEN abs({value}) >= {'1e6' if family == 'FLOAT' else '1e15'} AND NOT contains({text}, 'e') THEN {scientific}"
        rf" ELSE regexp_replace({text}, '\.0$', '') END"
    )


def _fitting(kind: PgType, value: str, text: str) -> Conversion:
    """Text in a column of characters, which may be too short for it."""
    if not kind.args:
        return _checked(value, f"NOT contains({text}, chr(0))", text)
    length = kind.args[0]
    padded = f"rpad({text}, {length}, ' ')" if kind.base == "character" else text
    return _checked(value, f"length({text}) <= {length} AND NOT contains({text}, chr(0))", padded)


def _to_text(family: str, kind: PgType, value: str) -> Conversion | None:
    if family == "BOOLEAN":
        return _fitting(kind, value, f"CAST({value} AS VARCHAR)")  # Postgres' own cast gives true, and not t
    readable = family in _WHOLE | _FLOATS | _MOMENTS or family in ("DECIMAL", "DATE", "TIME", "UUID", "JSON")
    return _fitting(kind, value, f"({_words(family, value)})") if readable else None


def _to_json(family: str, value: str) -> Conversion | None:
    if family == "JSON":
        return Conversion(f"CAST({value} AS VARCHAR)")
    return Conversion(f"CAST(to_json({value}) AS VARCHAR)") if family in ("LIST", "STRUCT", "MAP") else None


def _from_exact(family: str, args: tuple[int, ...], kind: PgType, value: str) -> Conversion | None:
    text = f"CAST({value} AS VARCHAR)"
    if kind.base in _INTEGERS:
        number = f"TRY_CAST({value} AS {_INTEGERS[kind.base]})"
        return _checked(value, f"{number} = {value}", f"CAST({number} AS VARCHAR)")
    if kind.base == "numeric":
        fits = not kind.args or (len(kind.args) == len(args) == 2 and kind.args[1] == args[1] and kind.args[0] >= args[0])
        return Conversion(text) if fits else _to_numeric(kind, value, text, f"{{}} = {value}")
    if kind.base in ("real", "double precision"):
        held = "FLOAT" if kind.base == "real" else "DOUBLE"
        number = f"CAST({value} AS {held})"
        exact = f"TRY_CAST({number} AS {'HUGEINT' if family in _WHOLE else 'DECIMAL({},{})'.format(*args)}) = {value}"
        return _checked(value, exact, f"({_float_words(held, number)})")
    return None


def _to_numeric(kind: PgType, value: str, text: str, equal: str) -> Conversion | None:
    """Into numeric(p,s); `equal` is the test with {} for the number as it is there."""
    precision, scale = (*kind.args, 0)[:2]
    if not 0 <= scale <= precision:
        return None
    if precision > _DIGITS:  # beyond DuckDB: what it holds is a part of it
        precision = _DIGITS
    number = f"TRY_CAST({value} AS DECIMAL({precision},{scale}))"
    return _checked(value, equal.format(number), f"CAST({number} AS VARCHAR)")


def _from_float(family: str, kind: PgType, value: str) -> Conversion | None:
    if kind.base == "double precision":
        return Conversion(_float_words("DOUBLE", f"CAST({value} AS DOUBLE)"))
    if kind.base == "real":
        number = f"TRY_CAST({value} AS FLOAT)"
        return _checked(value, f"{number} = {value}", f"({_float_words('FLOAT', number)})")
    if kind.base in _INTEGERS:
        number = f"TRY_CAST({value} AS {_INTEGERS[kind.base]})"
        return _checked(value, f"CAST({number} AS DOUBLE) = {value} AND abs({value}) <= 9007199254740992", f"CAST({number} AS VARCHAR)")
    if kind.base != "numeric":
        return None
    if kind.args:
        return _to_numeric(kind, value, "", f"CAST({{}} AS {family}) = {value}")
    text = f"CAST({value} AS VARCHAR)"
    whole = f"CAST(TRY_CAST({value} AS HUGEINT) AS VARCHAR)"
    small = f"rtrim(CAST(TRY_CAST({text} AS DECIMAL(38,37)) AS VARCHAR), '0')"
    written = (
        f"CASE WHEN {value} = 0 THEN '0' WHEN NOT contains({text}, 'e') AND isfinite({value}) THEN regexp_replace({text}, '\\.0$', '')"
        f" WHEN isnan({value}) THEN 'NaN' WHEN NOT isfinite({value}) THEN CASE WHEN {value} > 0 THEN 'Infinity' ELSE '-Infinity' END"
        f" WHEN abs({value}) > 1 THEN {whole} ELSE {small} END"
    )
    return _checked(value, f"NOT isfinite({value}) OR TRY_CAST({written} AS {family}) = {value}", f"({written})")


def _from_moment(family: str, kind: PgType, value: str) -> Conversion | None:
    if kind.base == "date":
        if family == "DATE":
            return Conversion(_words("DATE", value))
        return _checked(value, f"CAST(CAST({value} AS DATE) AS {family}) = {value}", f"({_words('DATE', f'CAST({value} AS DATE)')})")
    held = {"timestamp without time zone": "TIMESTAMP", "timestamp with time zone": "TIMESTAMP WITH TIME ZONE"}.get(kind.base)
    if held is None:
        return None
    moment = value if family == held else f"CAST({value} AS {held})"
    if family == "TIMESTAMP_NS":
        return _checked(value, f"CAST({moment} AS TIMESTAMP_NS) = {value}", f"({_words(held, moment)})")
    if kind.args and kind.args[0] < 6:
        whole = f"NOT isfinite({moment}) OR epoch_us({moment}) % {10 ** (6 - kind.args[0])} = 0"
        return _checked(value, whole, f"({_words(held, moment)})")
    return Conversion(_words(held, moment))


_DAY = r"\d{4,6}-\d\d-\d\d"
_CLOCK = r"\d\d:\d\d:\d\d(\.\d{1,6})?"
_ZONE = r"(Z|[+-]\d\d(:?\d\d)?)"
_READ = {
    "boolean": (r"(?i)t|f|true|false", "BOOLEAN"),
    "date": (_DAY, "DATE"),
    "timestamp without time zone": (rf"{_DAY}([ T]{_CLOCK})?", "TIMESTAMP"),
    "timestamp with time zone": (rf"{_DAY}[ T]{_CLOCK}{_ZONE}", "TIMESTAMP WITH TIME ZONE"),
    "time without time zone": (_CLOCK, "TIME"),
    "uuid": (r"[0-9a-fA-F-]{32,36}", "UUID"),
}
_DIGITS_ONLY = r"[+-]?\d+"
_FLOAT = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|NaN|-?Infinity"


def _from_text(kind: PgType, value: str) -> Conversion | None:
    """Text as a value of its column's type, read as strictly as that of a message."""
    if kind.base in _TEXTS or kind.base == '"char"':
        return _fitting(kind, value, value)
    if kind.base in ("json", "jsonb"):
        return _checked(value, f"json_valid({value})", value)
    if kind.base in _INTEGERS:
        number = f"TRY_CAST({value} AS {_INTEGERS[kind.base]})"
        return _checked(value, f"{_matches(value, _DIGITS_ONLY)} AND {number} IS NOT NULL", f"CAST({number} AS VARCHAR)")
    if kind.base == "numeric":
        if not kind.args:
            return _checked(value, _matches(value, r"-?\d+(\.\d+)?|NaN|-?Infinity"), _without_zeros(value))
        exact = r"[+-]?\d+(\.\d{0,SCALE}0*)?".replace("SCALE", str(max((*kind.args, 0)[1], 0)))
        return _to_numeric(kind, value, value, _matches(value, exact).replace("{", "{{").replace("}", "}}") + " AND {} IS NOT NULL")
    if kind.base in ("real", "double precision"):
        held = "FLOAT" if kind.base == "real" else "DOUBLE"
        number = f"TRY_CAST({value} AS {held})"
        infinite = f"(isfinite({number}) OR NOT {_matches(value, '.*[0-9].*')})"
        return _checked(value, f"{_matches(value, _FLOAT)} AND {infinite}", f"({_float_words(held, number)})")
    if kind.base == "bytea":
        return _checked(value, _matches(value, r"\\x([0-9a-fA-F]{2})*"), f"lower({value})")
    if kind.base not in _READ:
        return _checked(value, f"NOT contains({value}, chr(0))", value)  # Postgres' own words: an interval, a range, an address
    pattern, held = _READ[kind.base]
    read = f"TRY_CAST({value} AS {held})"
    endless = f"{value} IN ('infinity', '-infinity')" if held in _MOMENTS or held == "DATE" else "false"
    test = f"({_matches(value, pattern)} OR {endless}) AND {read} IS NOT NULL"
    if kind.args and held in _MOMENTS and kind.args[0] < 6:
        test += f" AND (NOT isfinite({read}) OR epoch_us({read}) % {10 ** (6 - kind.args[0])} = 0)"
    return _checked(value, test, f"({_words(held, read)})")


def _without_zeros(value: str) -> str:
    return rf"regexp_replace({value}, '^(-?)0+(\d)', '\1\2')"


def _matches(value: str, pattern: str) -> str:
    return f"regexp_full_match({value}, '{pattern}')"
