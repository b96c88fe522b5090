"""The shapes of texts: how digits, letters and signs stand in them, and the regular expression that a few shapes amount to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.quarantine import shape_of
from quality.profile.model import ShapeCount

_LENGTH = 160
"""Characters of a text that its shape is made from."""
_MOST_MASKS = 4000
_SHOWN = 12
_MOST_SHAPES = 3
_LONGEST_PATTERN = 40
_RARE = 0.01

_LETTERS = np.arange(256, dtype=np.uint8)
_LETTERS[ord("a") : ord("z") + 1] = ord("a")
_LETTERS[ord("A") : ord("Z") + 1] = ord("A")
_LETTERS[ord("0") : ord("9") + 1] = ord("9")
_CLASSES = {"A": "[A-Z]", "a": "[a-z]", "9": "[0-9]"}


def masks(texts: pa.StringArray) -> pa.StringArray:
    """Each text, without nulls, with A for a capital letter, a for a small one and 9 for a digit (of ASCII); all others stay."""
    short = pc.utf8_slice_codeunits(texts, 0, _LENGTH).cast(pa.large_string())
    _, offsets, content = short.buffers()
    if content is None or not len(short):
        return short
    mapped = _LETTERS[np.frombuffer(content, np.uint8)]
    return pa.Array.from_buffers(short.type, len(short), [None, offsets, pa.py_buffer(mapped)], offset=short.offset)


class Shapes:
    """Counts masks, as long as they are few; then the shapes of a sample go on alone."""

    def __init__(self) -> None:
        self._masks: Counter[str] = Counter()
        self._sample: Counter[str] = Counter()
        self.whole = True

    def add(self, texts: pa.StringArray, counts: pa.Int64Array, sample: pa.StringArray) -> None:
        """`counts`: in how many rows each of the texts is. `sample`: some of them."""
        if self.whole:
            grouped = pa.table({"mask": masks(texts), "rows": counts}).group_by("mask", use_threads=False).aggregate([("rows", "sum")])
            if grouped.num_rows + len(self._masks) > _MOST_MASKS:
                self.whole = False
                for mask, rows in self._masks.items():
                    self._sample[shape_of(mask)] += rows
            else:
                for mask, rows in zip(grouped["mask"].to_pylist(), grouped["rows_sum"].to_pylist(), strict=True):
                    self._masks[mask] += rows
        if not self.whole:
            self._sample.update(shape_of(mask) for mask in masks(sample).to_pylist())

    @property
    def counts(self) -> Counter[str]:
        """Shape -> rows (of a sample, where not `whole`)."""
        if not self.whole:
            return self._sample
        found: Counter[str] = Counter()
        for mask, rows in self._masks.items():
            found[shape_of(mask)] += rows
        return found

    @property
    def masks(self) -> Counter[str]:
        """Mask -> rows; empty where there were too many."""
        return self._masks if self.whole else Counter()

    def shown(self) -> tuple[ShapeCount, ...]:
        """The most frequent shapes, and the rarest where one is the rule."""
        counts = self.counts
        total = sum(counts.values())
        common = counts.most_common()
        chosen = common if len(common) <= _SHOWN else [*common[: _SHOWN - 2], *common[-2:]]
        return tuple(ShapeCount(shape, rows, rows / total) for shape, rows in chosen)

    def rare(self) -> tuple[str, int] | None:
        """Shapes that hardly any text has where one shape is that of nearly all: the rule, and how many rows are otherwise."""
        counts = self.counts
        total = sum(counts.values())
        if len(counts) < 2 or not self.whole:
            return None
        (rule, most), *rest = counts.most_common()
        others = sum(rows for _, rows in rest)
        return (rule, others) if others <= _RARE * total and total >= 100 and most >= 100 else None

    def pattern(self) -> str | None:
        """A regular expression that every text matches, where they look like codes: digits among them, or all of one length."""
        if not self.whole or not self._masks or any(len(mask) >= _LENGTH or not mask.isascii() for mask in self._masks):
            return None
        runs: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
        for mask in self._masks:
            parts = [(sign, len(list(group))) for sign, group in groupby(mask)]
            runs.setdefault(tuple(sign for sign, _ in parts), []).append(tuple(length for _, length in parts))
        if len(runs) > _MOST_SHAPES or any(not signs or len(signs) > _LONGEST_PATTERN or not _plain(signs) for signs in runs):
            return None
        lengths = {len(mask) for mask in self._masks}
        if len(lengths) > 1 and not all("9" in signs for signs in runs):
            return None
        written = [_written(signs, spans) for signs, spans in runs.items()]
        return f"^{written[0]}$" if len(written) == 1 else f"^({'|'.join(sorted(written))})$"


def _plain(signs: Sequence[str]) -> bool:
    return all(sign.isprintable() for sign in signs)


def _written(signs: Sequence[str], spans: Sequence[Sequence[int]]) -> str:
    parts = []
    for place, sign in enumerate(signs):
        low, high = min(span[place] for span in spans), max(span[place] for span in spans)
        times = "" if low == high == 1 else f"{{{low}}}" if low == high else f"{{{low},{high}}}"
        literal = re.sub(r"([\\^$.|?*+()\[\]{}/])", r"\\\1", sign)
        parts.append(_CLASSES.get(sign, literal) + times)
    return "".join(parts)
