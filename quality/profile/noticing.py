"""What a person should look at: mixtures of formats, words for missing values, texts with spaces around them, far-off numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from quality.profile.batches import UNFIT
from quality.profile.measuring import Figures
from quality.profile.model import ColumnProfile, Finding, TableProfile
from quality.profile.texts import Texts

_MISSING = frozenset({"n/a", "na", "null", "none", "nil", "nan", "-", "--", "?", "unknown", "tbd", "missing", "(null)", "#n/a"})
_FAR_DATES = ("1900-01-01", "1970-01-01", "1899-12-30", "9999-12-31", "2999-12-31", "0001-01-01")
_SHARE = 0.01


def noticed(column: ColumnProfile, figures: Figures, texts: Texts | None, kinds: frozenset[str]) -> list[Finding]:
    """The findings of one column; examples are not masked yet."""
    return [*_of_all(column, kinds), *(_of_text(column, figures, texts) if texts is not None else ())]


def noticed_of_table(profile: TableProfile) -> list[Finding]:
    """What is strange about the rows as a whole."""
    found = []
    if profile.rows == 0:
        found.append(Finding("empty", None, "there are no rows: only names and types can be drafted"))
    if profile.duplicates:
        found.append(Finding("duplicate-rows", None, "rows are wholly like an earlier one", profile.duplicates))
    if profile.rows > 1 and not profile.keys and profile.columns:
        found.append(Finding("no-key", None, "no column, and no pair of columns, tells the rows apart"))
    return found


def _of_all(column: ColumnProfile, kinds: frozenset[str]) -> Iterator[Finding]:
    def finding(kind: str, message: str, rows: int | None = None, examples: Sequence[str] = ()) -> Finding:
        return Finding(kind, column.name, message, rows, examples)

    if column.rows and column.nulls == column.rows:
        yield finding("all-null", "there is no value in any row", column.nulls)
    elif column.rows > 1 and column.filled == column.rows and column.distinct == 1:
        yield finding("constant", "every row has the same value")
    if column.nan:
        yield finding("nan", "not a number (NaN)", column.nan)
    if column.infinite:
        far = column.logical in ("date", "timestamp")
        yield finding("infinite", "before the year 1, after 9999, or infinite" if far else "infinite", column.infinite)
    if UNFIT in kinds:
        yield finding("unfit", "values that no typed column can hold (NaN, infinity, 24:00): counted as null, and no type is drafted")
    elif len(kinds) > 1 and kinds != {"integer", "number"}:
        yield finding("mixed-types", f"values of several kinds: {', '.join(sorted(kinds))}")
    if column.better:
        what = column.logical if column.format is None else f"{column.logical} ({column.format})"
        yield finding("better-type", f"every text is a value of type {what}", column.filled)
    if column.outliers is not None:
        yield finding("outliers", column.outliers.method, column.outliers.rows, column.outliers.examples)
    extremes = [str(value)[:10] for value in (column.least, column.most) if isinstance(value, str)]
    for day in dict.fromkeys(day for day in extremes if day in _FAR_DATES):
        yield finding("stand-in", f"{day} may stand for a date that is not known")


def _of_text(column: ColumnProfile, figures: Figures, texts: Texts) -> Iterator[Finding]:
    def finding(kind: str, message: str, rows: int | None = None, examples: Sequence[str] = ()) -> Finding:
        return Finding(kind, column.name, message, rows, examples)

    if column.empty:
        yield finding("empty-text", "empty texts, which are not null", column.empty)
    if column.blank:
        yield finding("blank", "nothing but white space", column.blank)
    if column.padded > column.blank:
        yield finding("padded", "white space before or behind the text", column.padded - column.blank)
    missing = [one for one in column.top if one.value.strip().lower() in _MISSING]
    if missing:
        rows = sum(one.rows for one in missing)
        yield finding("stand-in", "words that may stand for a missing value", rows, [one.value for one in missing])
    if figures.folded is not None and figures.folded < figures.distinct and column.logical == "string":
        spelled = figures.distinct - figures.folded
        said = "1 value differs from another one" if spelled == 1 else f"{spelled} values differ from another one"
        yield finding("mixed-case", f"{said} only in case, or in spaces around it", None, _alike(column))
    if column.logical == "string":
        yield from _mixtures(column, texts)
    elif column.logical == "timestamp":
        yield from _zones(column, texts)
    rare = texts.shapes.rare()
    if rare is not None and column.logical == "string":
        yield finding("rare-shapes", f"nearly all have the shape {rare[0]}; these have another", rare[1])


def _mixtures(column: ColumnProfile, texts: Texts) -> Iterator[Finding]:
    dates, numbers, units = (texts.ways[way] for way in ("dates", "numbers", "units"))
    looked = sum(texts.shapes.counts.values()) or 1
    if texts.guesses.ambiguous:
        ways = " and ".join(texts.guesses.ambiguous)
        yield Finding("ambiguous-dates", column.name, f"dates that can be read as {ways}: nobody can tell the day from the month")
    if len(dates) > 1 and sum(dates.values()) >= _SHARE * looked:
        yield Finding("mixed-dates", column.name, f"dates in {len(dates)} formats: {_shares(dates)}")
    commas = {way: rows for way, rows in numbers.items() if way != "1234.5" or not texts.leading_zeros}
    if len(commas) > 1 and sum(commas.values()) >= 0.5 * looked:
        yield Finding("mixed-numbers", column.name, f"numbers written in {len(commas)} ways: {_shares(Counter(commas))}")
    elif numbers and not texts.leading_zeros and 0.9 * looked <= sum(numbers.values()) < looked:
        others = looked - sum(numbers.values())
        yield Finding("nearly-numbers", column.name, "nearly all texts are numbers; these are not", others)
    if texts.leading_zeros and sum(numbers.values()) >= 0.9 * looked:
        yield Finding("leading-zeros", column.name, "digits with leading zeros: a code, so it stays text", texts.leading_zeros)
    if len(units) > 1 and sum(units.values()) >= 0.5 * looked and column.sensitive is None:
        yield Finding("mixed-units", column.name, f"amounts in {len(units)} units: {_shares(units)}")
    yield from _zones(column, texts)


def _zones(column: ColumnProfile, texts: Texts) -> Iterator[Finding]:
    zones = Counter({zone or "none": rows for zone, rows in texts.ways["zones"].items()})
    if len(zones) > 1:
        yield Finding("mixed-zones", column.name, f"times in {len(zones)} zones: {_shares(zones)}")


def _shares(ways: Counter[str]) -> str:
    total = sum(ways.values())
    told = [f"{way} ({100 * rows / total:.3g} %)" for way, rows in ways.most_common(6)]
    return ", ".join(told) + (", …" if len(ways) > 6 else "")


def _alike(column: ColumnProfile) -> list[str]:
    """Some of the most frequent values that are one value in other letters."""
    by_fold: dict[str, list[str]] = {}
    for one in column.top:
        by_fold.setdefault(one.value.strip().lower(), []).append(one.value)
    return [value for values in by_fold.values() if len(values) > 1 for value in values][:6]
