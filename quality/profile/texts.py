"""What the texts of one column are like, gathered batch by batch while rows pass: in memory that does not grow with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.profile import sensitive
from quality.profile.guesses import Guesses
from quality.profile.shapes import Shapes

_SAMPLE = 4000  # different values of each batch that are looked at one by one
_SAMPLED = 200_000  # and of all batches
_KEPT = 2000

_ISO = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]|$)"
_DATES = {
    "2024-01-31": _ISO,
    "31.01.2024": r"^[0-9]{1,2}\.[0-9]{1,2}\.([0-9]{4}|[0-9]{2})\b",
    "31/01/2024": r"^[0-9]{1,2}/[0-9]{1,2}/([0-9]{4}|[0-9]{2})\b",
    "31-01-2024": r"^[0-9]{1,2}-[0-9]{1,2}-[0-9]{4}\b",
    "2024/01/31": r"^[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}\b",
    "31 Jan 2024": r"^[0-9]{1,2}[ -][A-Za-z]{3,9}[ -][0-9]{4}\b",
    "Jan 31, 2024": r"^[A-Za-z]{3,9} [0-9]{1,2},? [0-9]{4}\b",
}
_NUMBERS = {
    "1234.5": r"^[+-]?[0-9]+(\.[0-9]+)?$",
    "1,234.5": r"^[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?$",
    "1234,5": r"^[+-]?[0-9]+,[0-9]+$",
    "1.234,5": r"^[+-]?[0-9]{1,3}(\.[0-9]{3})+,[0-9]+$",
    "1 234,5": r"^[+-]?[0-9]{1,3}( [0-9]{3})+([.,][0-9]+)?$",
}
_ZONE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?P<zone>Z|[+-][0-9]{2}(?::?[0-9]{2})?)?$"
_UNIT = r"^[+-]?[0-9][0-9.,]*\s?(?P<unit>[A-Za-z%€$£¥°µ][A-Za-z/²³]{0,5})$"


class Texts:
    """One column of text. `free`: whether numbers and booleans may be written as text in it."""

    def __init__(self, *, free: bool) -> None:
        self.guesses = Guesses(free=free)
        self.shapes = Shapes()
        self.values: list[str] = []  # a sample of different ones, at most so many
        self.sampled = 0
        self.ways: dict[str, Counter[str]] = {"dates": Counter(), "numbers": Counter(), "zones": Counter(), "units": Counter()}
        self.leading_zeros = 0

    def add(self, texts: pa.Array) -> None:
        """More values; nulls say nothing."""
        counted = pc.value_counts(texts.drop_null())
        if not len(counted):
            return
        values, counts = counted.field("values"), counted.field("counts")
        self.guesses.add(values.cast(pa.string()) if pa.types.is_large_string(values.type) else values)
        places = np.unique(np.linspace(0, len(values) - 1, min(_SAMPLE, len(values))).astype(np.int64))
        sample = values.take(pa.array(places))
        self.shapes.add(values, counts, sample)
        if self.sampled < _SAMPLED:
            self.sampled += len(sample)
            self._look(sample, counts.take(pa.array(places)))

    @property
    def sensitive(self) -> str | None:
        """What its values are that people must not see."""
        return sensitive.by_values(self.values)

    def _look(self, sample: pa.Array, counts: pa.Array) -> None:
        short = pc.utf8_slice_codeunits(sample, 0, 200)
        room = _KEPT - len(self.values)
        if room > 0:
            self.values += short.slice(0, room).to_pylist()
        else:  # later rows are looked at too, in place of some of the first ones
            few = short.slice(0, 50).to_pylist()
            at = self.sampled % (_KEPT - len(few))
            self.values[at : at + len(few)] = few
        weights = np.asarray(counts)
        for way, patterns in (("dates", _DATES), ("numbers", _NUMBERS)):
            for name, pattern in patterns.items():
                found = np.asarray(pc.match_substring_regex(short, pattern))
                if found.any():
                    self.ways[way][name] += int(weights[found].sum())
        zeros = np.asarray(pc.match_substring_regex(short, r"^[+-]?0[0-9]+$"))
        self.leading_zeros += int(weights[zeros].sum())
        for way, pattern, part in (("zones", _ZONE, "zone"), ("units", _UNIT, "unit")):
            groups = pc.extract_regex(short, pattern)
            fits = np.asarray(pc.is_valid(groups))
            if fits.any():
                for word, rows in _tallied(groups.field(part).filter(pa.array(fits)), weights[fits]):
                    self.ways[way][word] += rows
                if len(self.ways[way]) > _SAMPLE:
                    self.ways[way] = Counter(dict(self.ways[way].most_common(_SAMPLE // 2)))


def _tallied(words: pa.Array, weights: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Sequence[tuple[str, int]]:
    grouped = pa.table({"word": words, "rows": weights}).group_by("word", use_threads=False).aggregate([("rows", "sum")])
    return list(zip(grouped["word"].to_pylist(), grouped["rows_sum"].to_pylist(), strict=True))
