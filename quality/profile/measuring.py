"""The figures of one column, asked of the stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from quality.profile.model import Bar, Common, Outliers, Scalar
from quality.profile.stage import Stage

EXACT = 200_000
"""Rows up to which different values are counted one by one whatever they are; beyond, only where they are few, or hardly any repeats."""
_FEW = 50_000
_NEARLY_ALL = 0.9
HLL_ERROR = 0.05
"""What DuckDB's HyperLogLog is off by, in nearly all cases, as a share of the count."""
_EXACT_QUANTILES = 1_000_000
_TOP = 10
_WORDS = 25
_BARS = 24
_CUT = 200
_EXAMPLES = 5
_FENCE = 3.5
_MAGNITUDES = 100
_SKEWED = 0.01
_SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_QUANTILES = ("p01", "p05", "p25", "p50", "p75", "p95", "p99")
_MOMENTS = ("date", "timestamp", "time")
_FIRST, _LAST = "TIMESTAMP '0001-01-01'", "TIMESTAMP '9999-12-31 23:59:59.999999'"


@dataclass
class Figures:
    """What ColumnProfile says, before anything is masked."""

    nulls: int = 0
    nan: int = 0
    infinite: int = 0
    empty: int = 0
    blank: int = 0
    padded: int = 0
    distinct: int = 0
    distinct_error: float = 0.0
    folded: int | None = None
    least: Scalar | None = None
    most: Scalar | None = None
    wide: bool = False
    mean: float | None = None
    quantiles: dict[str, Scalar] = field(default_factory=dict)
    shortest: int | None = None
    longest: int | None = None
    top: Sequence[Common] = ()
    words: Sequence[str] | None = None
    histogram: Sequence[Bar] = ()
    outliers: Outliers | None = None


class Measure:
    """One column `name` of the stage, whose values are of `family`."""

    def __init__(self, stage: Stage, name: str, family: str) -> None:
        self._stage = stage
        self._name = name
        self._family = family
        self._from = stage.relation(name)
        self._figures = Figures()

    def figures(self) -> Figures:
        """Everything there is to say; a few queries."""
        found = self._figures
        self._count()
        filled = self._stage.rows - found.nulls - found.nan
        if not filled:
            return found
        if self._family in ("text", "uuid", "json", "array", "other"):
            self._lengths()
        elif self._family in ("integer", "number"):
            self._numbers()
        elif self._family in _MOMENTS:
            self._moments()
        if self._family not in ("json", "array", "binary"):
            self._common(filled)
        return found

    def _row(self, columns: str, where: str | None = None) -> tuple[Any, ...]:
        return self._stage.ask(f"SELECT {columns} FROM {self._from}" + (f" WHERE {where}" if where else ""))[0]

    def _count(self) -> None:
        name, found = self._name, self._figures
        number = self._family in ("integer", "number")
        nan = f"count(*) FILTER (isnan(CAST({name} AS DOUBLE)))" if number else "0"
        infinite = f"count(*) FILTER (isinf(CAST({name} AS DOUBLE)))" if number else "0"
        filled, about, found.nan, found.infinite = self._row(f"count({name}), approx_count_distinct({name}), {nan}, {infinite}")
        found.nulls = self._stage.rows - filled
        if filled <= EXACT or about <= _FEW or about >= _NEARLY_ALL * filled:
            sane = f"NOT isnan(CAST({name} AS DOUBLE))" if number and found.nan else None
            (found.distinct,) = self._row(f"count(DISTINCT {name})", sane)
        else:
            found.distinct, found.distinct_error = about, HLL_ERROR

    def _lengths(self) -> None:
        name, found = self._name, self._figures
        found.shortest, found.longest, found.empty, found.blank, found.padded = self._row(
            f"min(length({name})), max(length({name})), count(*) FILTER ({name} = ''), "
            f"count(*) FILTER ({name} <> '' AND regexp_full_match({name}, '\\s*')), count(*) FILTER (regexp_matches({name}, '^\\s|\\s$'))"
        )
        if found.distinct_error == 0 and found.distinct <= _FEW:
            (found.folded,) = self._row(f"count(DISTINCT lower(trim({name})))")

    def _numbers(self) -> None:
        name, found = self._name, self._figures
        finite = f"isfinite(CAST({name} AS DOUBLE))"
        (count,) = self._row("count(*)", finite)
        if not count:
            return
        low, high, found.mean, kind = self._row(f"min({name}), max({name}), avg(CAST({name} AS DOUBLE)), any_value(typeof({name}))", finite)
        found.least, found.most = _exact(low), _exact(high)
        found.mean = _finite(found.mean)
        found.wide = self._family == "integer" and kind == "DOUBLE"
        self._spread(f"CAST({name} AS DOUBLE)", finite, count, float(low), float(high))
        middle = float(found.quantiles["p50"])
        self._outliers(finite, middle, count)
        if self._family == "integer":
            found.quantiles = {share: round(value) if float(value).is_integer() else value for share, value in found.quantiles.items()}  # type: ignore[arg-type]

    def _moments(self) -> None:
        """What is before the year 1 or behind 9999 (or infinite) is only counted: a contract cannot write it."""
        name, found = self._name, self._figures
        moment = f"TRY_CAST({name} AS TIMESTAMP)"
        number = f"epoch({name})" if self._family == "time" else f"epoch_us({moment}) / 1e6"
        known = f"{name} IS NOT NULL" if self._family == "time" else f"{moment} BETWEEN {_FIRST} AND {_LAST}"
        low, high, count, first, last = self._row(
            f"min({name})::VARCHAR, max({name})::VARCHAR, count({name}), min({number}), max({number})", known
        )
        found.infinite = self._stage.rows - found.nulls - count
        if not count:
            return
        found.least, found.most = _moment(low), _moment(high)
        self._spread(number, known, count, float(first), float(last))
        back = {
            "date": "CAST(make_timestamp(CAST(x * 1e6 AS BIGINT)) AS DATE)",
            "timestamp": "make_timestamp(CAST(x * 1e6 AS BIGINT))",
            "time": "CAST(make_timestamp(CAST(x * 1e6 AS BIGINT)) AS TIME)",
        }[self._family]

        def told(value: Scalar) -> str:
            return _moment(self._stage.ask(f"SELECT ({back})::VARCHAR FROM (SELECT {float(value)!r}::DOUBLE AS x)")[0][0])

        found.quantiles = {share: told(value) for share, value in found.quantiles.items()}
        found.histogram = [Bar(told(bar.low), told(bar.high), bar.rows) for bar in found.histogram]

    def _spread(self, number: str, where: str, count: int, low: float, high: float) -> None:
        """Quantiles and histogram of what `number` makes of the values."""
        shares = ", ".join(map(str, _SHARES))
        function = "quantile_cont" if count <= _EXACT_QUANTILES else "approx_quantile"
        (values,) = self._row(f"{function}({number}, [{shares}])", where)
        clamped = [min(max(float(value), low), high) for value in values]
        self._figures.quantiles = dict(zip(_QUANTILES, clamped, strict=True))
        width = high / _BARS - low / _BARS
        if width <= 0 or not math.isfinite(width) or not math.isfinite(high - low):
            self._figures.histogram = [Bar(low, high, count)]
            return
        bucket = f"least({_BARS - 1}, greatest(0, CAST(floor(({number} - {low!r}::DOUBLE) / {width!r}::DOUBLE) AS INTEGER)))"
        there = f"{where} AND {self._name} IS NOT NULL"
        rows = dict(self._stage.ask(f"SELECT {bucket} AS bucket, count(*) FROM {self._from} WHERE {there} GROUP BY 1"))
        self._figures.histogram = [Bar(low + place * width, low + (place + 1) * width, rows.get(place, 0)) for place in range(_BARS)]

    def _outliers(self, finite: str, middle: float, count: int) -> None:
        """Fences around the middle; in logarithms where all are positive and so many are outside that the values are skewed, not wrong."""
        found = self._fenced(finite, middle, count, ratio=False)
        least, most = float(self._figures.least or 0), float(self._figures.most or 0)
        if found is not None and found.rows > _SKEWED * count and least > 0 and most / least > _MAGNITUDES:
            found = self._fenced(finite, middle, count, ratio=True)
        self._figures.outliers = found

    def _fenced(self, finite: str, middle: float, count: int, *, ratio: bool) -> Outliers | None:
        number = f"CAST({self._name} AS DOUBLE)"
        scaled = f"ln({number})" if ratio else number
        quartiles = [float(self._figures.quantiles[share]) for share in ("p25", "p75")]
        middle, first, third = (math.log(value) if ratio else value for value in (middle, *quartiles))
        function = "quantile_cont" if count <= _EXACT_QUANTILES else "approx_quantile"
        (deviation,) = self._row(f"{function}(abs({scaled} - {middle!r}::DOUBLE), 0.5)", finite)
        if deviation and math.isfinite(deviation):
            reach, method = _FENCE * deviation / 0.6745, f"more than {_FENCE} robust deviations (MAD) from the median"
            low, high = middle - reach, middle + reach
        elif third > first:
            low, high = first - 3 * (third - first), third + 3 * (third - first)
            method = "more than three times the interquartile range away from the quartiles"
        else:
            return None
        if not (math.isfinite(low) and math.isfinite(high)):
            return None
        outside = f"{finite} AND ({scaled} < {low!r}::DOUBLE OR {scaled} > {high!r}::DOUBLE)"
        (rows,) = self._row("count(*)", outside)
        if not rows:
            return None
        extremes = self._stage.ask(
            f"SELECT DISTINCT {self._name}::VARCHAR, abs({scaled} - {middle!r}::DOUBLE) AS far FROM {self._from} WHERE {outside}"
            f" ORDER BY far DESC, 1 LIMIT {_EXAMPLES}"
        )
        fences = [_power(fence) if ratio else fence for fence in (low, high)]
        return Outliers(rows, fences[0], fences[1], method + (", in logarithms" if ratio else ""), [text for text, _ in extremes])

    def _common(self, filled: int) -> None:
        """The most frequent values, and all of them where they are few."""
        name, found = self._name, self._figures
        if found.distinct_error == 0 and found.distinct == filled and filled > 1:
            return
        sane = f"{name} IS NOT NULL" + (f" AND NOT isnan(CAST({name} AS DOUBLE))" if found.nan else "")
        if found.distinct_error:
            (candidates,) = self._row(f"approx_top_k({name}, {2 * _TOP})", sane)
            if not candidates:
                return
            among = f"{name} IN (SELECT unnest(approx_top_k({name}, {2 * _TOP})) FROM {self._from} WHERE {sane})"
            sane = f"{sane} AND {among}"
        text = f"left({name}::VARCHAR, {_CUT})"
        rows = self._stage.ask(
            f"SELECT min({text}), count(*) AS n, min(length({name}::VARCHAR)) FROM {self._from} WHERE {sane} GROUP BY {name}"
            f" ORDER BY n DESC, 1 LIMIT {max(_TOP, _WORDS + 1)}"
        )
        found.top = [Common(value + ("…" if length > _CUT else ""), count, count / filled) for value, count, length in rows[:_TOP]]
        if found.distinct <= _WORDS and found.distinct_error == 0 and self._family == "text" and all(length <= _CUT for *_, length in rows):
            found.words = sorted(value for value, *_ in rows)


def _exact(value: object) -> Scalar:
    """A number that loses nothing: an integer, or the double; a decimal as its text."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, int) else float(value)  # type: ignore[arg-type]  # numbers only


def _power(value: float) -> float | None:
    return math.exp(value) if value < 700 else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _moment(text: str) -> str:
    """DuckDB's text of a date or time as people write it."""
    return text.removesuffix("+00")
