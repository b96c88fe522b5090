"""From batches of rows to a profile: what passes is gathered, put down, and asked about once all of it is there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ConfigError
from quality.judgement import MASKED
from quality.odcs_schema import MOST_COLUMNS
from quality.profile import sensitive
from quality.profile.batches import Batch, Field
from quality.profile.held import Held, settled
from quality.profile.measuring import EXACT, Figures, Measure
from quality.profile.model import ColumnProfile, Common, Outliers, TableProfile
from quality.profile.noticing import noticed, noticed_of_table
from quality.profile.relations import Asked, candidate_keys, conditions
from quality.profile.stage import Stage
from quality.profile.texts import Texts

_DIGITS_OF_ANY_SCRIPT = re.compile(r"\d+")
_DIGITS = "SELECT DISTINCT {name}::VARCHAR FROM {source} WHERE {name} BETWEEN 1000000000000 AND 9999999999999999999 LIMIT 500"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the data before anybody looks: its name, where it is, its key and the columns that are called sensitive."""

    dataset: str
    place: str
    key: Sequence[str] = ()
    confidential: frozenset[str] = frozenset()


class Look:
    """One look at some rows, which are put down in `stage`."""

    def __init__(self, stage: Stage, known: Known, sample: int | None = None) -> None:
        self._stage = stage
        self._known = known
        self._sample = sample
        self._fields: list[Field] = []
        self._arrow: list[pa.DataType] = []
        self._places: dict[str, int] = {}
        self._texts: dict[int, Texts] = {}
        self._kinds: dict[str, frozenset[str]] = {}
        self._read: frozenset[int] = frozenset()
        self.held: list[Held] = []

    def take(self, batches: Iterable[Batch]) -> None:
        """Reads all rows, or as many as the sample has."""
        for batch in batches:
            room = None if self._sample is None else self._sample - self._stage.rows
            self._add(batch if room is None or batch.rows <= room else batch.head(room))
            if self.full:
                break

    @property
    def full(self) -> bool:
        return self._sample is not None and self._stage.rows >= self._sample

    def profile(self) -> TableProfile:
        """What was found in the rows so far."""
        self.held = [self._settle(place) for place in range(len(self._fields))]
        self._restage()
        columns = [self._column(place) for place in range(len(self._fields))]
        asked = [Asked(profile, self._name(place), self.held[place].family) for place, profile in enumerate(columns)]
        declared = [name for name in self._known.key if name in self._places]
        key = declared if len(declared) == len(self._known.key) else []
        found = TableProfile(
            dataset=self._known.dataset,
            place=self._known.place,
            rows=self._stage.rows,
            sampled=self._sample if self.full else None,
            written_at=datetime.now(UTC),
            columns=columns,
            keys=candidate_keys(self._stage, asked, key),
            conditions=conditions(self._stage, asked),
            duplicates=self._duplicates(),
        )
        return replace(found, findings=noticed_of_table(found))

    def _add(self, batch: Batch) -> None:
        columns: dict[int, pa.Array] = {}
        for one, values in zip(batch.fields, batch.columns, strict=True):
            place = self._places.get(one.name)
            if place is None:
                place = self._places[one.name] = len(self._fields)
                if place == MOST_COLUMNS:
                    raise ConfigError(f"{self._known.place} has more than {MOST_COLUMNS} columns, and a contract has no more")
                self._fields.append(one)
                self._arrow.append(values.type)
                if _is_text(values.type):
                    self._texts[place] = Texts(free=one.origin != "json")
            if place in self._texts:
                self._texts[place].add(_plain(values))
            self._kinds[one.name] = self._kinds.get(one.name, frozenset()) | batch.kinds.get(one.name, frozenset())
            columns[place] = _stageable(values)
        self._stage.append(columns, batch.rows)

    def _settle(self, place: int) -> Held:
        one, texts = self._fields[place], self._texts.get(place)
        return settled(one, self._arrow[place], texts, self._kinds.get(one.name, frozenset()), self._sensitive(place) is not None)

    def _sensitive(self, place: int) -> str | None:
        """Why the values of a column are masked."""
        one, texts = self._fields[place], self._texts.get(place)
        if one.name in self._known.confidential:
            return "the dataset's contract calls it confidential or restricted"
        found = texts.sensitive if texts is not None else None
        if found is None and pa.types.is_integer(self._arrow[place]) and not pa.types.is_int8(self._arrow[place]):
            name = f"c{place}"
            query = _DIGITS.format(name=name, source=self._stage.relation(name))
            found = sensitive.by_values([value for (value,) in self._stage.ask(query)])
        if found is not None:
            return f"it holds {found}"
        named = sensitive.by_name(one.name)
        boolean = pa.types.is_boolean(self._arrow[place]) or pa.types.is_timestamp(self._arrow[place])
        return f"it is called like {named}" if named is not None and not boolean else None

    def _restage(self) -> None:
        """Puts down what text was read as, where it is of a narrower type, and numbers that are too wide to compute with."""
        places = [place for place, held in enumerate(self.held) if held.better or _wide_number(held, self._arrow[place])]
        if not places or not self._stage.rows:
            return
        names = [f"c{place}" for place in places]

        def read() -> Iterator[Mapping[int, pa.Array]]:
            for batch in self._stage.batches(names):
                yield {place: self.held[place].measured(batch.column(f"c{place}")) for place in places}

        self._stage.restage(read())
        self._read = frozenset(places)

    def _name(self, place: int) -> str:
        """What the stage calls a column in its narrowest type."""
        return f"r{place}" if place in self._read else f"c{place}"

    def _column(self, place: int) -> ColumnProfile:
        held, texts = self.held[place], self._texts.get(place)
        found = Measure(self._stage, self._name(place), held.family).figures() if self._stage.rows else Figures()
        why = self._sensitive(place)
        told = texts is not None and held.family == "text"
        profile = ColumnProfile(
            name=held.field.name,
            given=held.field.given if held.field.origin != "json" else ", ".join(sorted(self._kinds[held.field.name])) or "null",
            logical=held.prop.logical_type,
            physical=held.prop.physical_type,
            better=held.better and (held.field.origin in ("arrow", "postgres") or "format" in held.prop.options),
            format=held.prop.options.get("format") if held.better else None,
            rows=self._stage.rows,
            nulls=found.nulls,
            nan=found.nan,
            infinite=found.infinite,
            empty=found.empty,
            blank=found.blank,
            padded=found.padded,
            distinct=found.distinct,
            distinct_error=found.distinct_error,
            least=found.least,
            most=found.most,
            wide=found.wide,
            mean=found.mean,
            quantiles=found.quantiles,
            shortest=found.shortest,
            longest=found.longest,
            top=found.top,
            words=found.words,
            shapes=() if texts is None else texts.shapes.shown(),
            shapes_whole=texts is None or texts.shapes.whole,
            pattern=texts.shapes.pattern() if texts is not None and told and "format" not in held.prop.options else None,
            text_format=held.prop.options.get("format") or (texts.guesses.format if texts is not None else None) if told else None,
            histogram=found.histogram,
            outliers=found.outliers,
            sensitive=why,
        )
        profile = replace(profile, findings=noticed(profile, found, texts, self._kinds.get(held.field.name, frozenset())))
        return _hidden(profile)

    def _duplicates(self) -> int | None:
        """Rows that are wholly like an earlier one; None where there are too many rows or columns to tell."""
        rows, width = self._stage.rows, len(self._fields)
        if not width or not rows or rows > EXACT or width > 200:
            return None
        names = [f"c{place}" for place in range(width)]
        (count,) = self._stage.ask(f"SELECT count(*) FROM (SELECT DISTINCT {', '.join(names)} FROM {self._stage.relation(*names)})")[0]
        return rows - int(count)


def _hidden(profile: ColumnProfile) -> ColumnProfile:
    """The profile without values that people must not see: all of a sensitive column, elsewhere those that give somebody away."""
    if profile.sensitive is not None:
        return replace(
            profile,
            least=None,
            most=None,
            mean=None,
            quantiles={},
            words=None,
            histogram=[],
            shapes=[replace(one, shape=_DIGITS_OF_ANY_SCRIPT.sub("9", one.shape)) for one in profile.shapes],
            top=[Common(MASKED, one.rows, one.share) for one in profile.top],
            outliers=None if profile.outliers is None else _without_values(profile.outliers),
            findings=[replace(one, examples=[MASKED for _ in one.examples]) for one in profile.findings],
        )
    words = profile.words
    return replace(
        profile,
        words=None if words is not None and any(map(sensitive.revealing, words)) else words,
        top=[replace(one, value=_shown(one.value)) for one in profile.top],
        findings=[replace(one, examples=[_shown(example) for example in one.examples]) for one in profile.findings],
    )


def _without_values(found: Outliers) -> Outliers:
    return replace(found, low=None, high=None, examples=[MASKED for _ in found.examples])


def _shown(value: str) -> str:
    return MASKED if sensitive.revealing(value) else value


def _is_text(of: pa.DataType) -> bool:
    held = of.value_type if pa.types.is_dictionary(of) else of
    return bool(pa.types.is_string(held) or pa.types.is_large_string(held) or pa.types.is_string_view(held))


def _plain(values: pa.Array) -> pa.Array:
    """Text as one of the two types that kernels know."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values.cast(pa.large_string()) if pa.types.is_string_view(values.type) else values


def _stageable(values: pa.Array) -> pa.Array:
    """As the stage can keep it: without dictionaries; numbers of more than 38 digits, and what nobody knows, as text."""
    kinds = pa.types
    if kinds.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if kinds.is_decimal256(values.type):
        return values.cast(pa.string())
    if kinds.is_timestamp(values.type) and values.type.unit in ("s", "ms"):
        return _in_micros(values)
    if kinds.is_float16(values.type):
        return values.cast(pa.float32())
    if kinds.is_decimal32(values.type) or kinds.is_decimal64(values.type):
        return values.cast(pa.decimal128(values.type.precision, values.type.scale))
    return values


def _in_micros(values: pa.Array) -> pa.Array:
    """Timestamps in microseconds; what is further away than 146 000 years as far as that."""
    far = 2**62 // (1_000_000 if values.type.unit == "s" else 1000)
    near = pc.max_element_wise(pc.min_element_wise(values.cast(pa.int64()), far, skip_nulls=False), -far, skip_nulls=False)
    return near.cast(values.type).cast(pa.timestamp("us", values.type.tz))


def _wide_number(held: Held, arrow: pa.DataType) -> bool:
    text = pa.types.is_string(arrow) or pa.types.is_decimal256(arrow)
    return held.family in ("integer", "number") and text
