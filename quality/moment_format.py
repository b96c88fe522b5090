"""Formats of dates and times as the standard writes them (those of Java's DateTimeFormatter), and what is read by them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.duckdb_session import Prepared, session
from journal.types import TypedColumn

NEVER_VALUE = -(2**63)  # in place of a null, which numpy has not
NEVER = "((-9223372036854775807)::BIGINT - 1)"
# letters -> directive of strptime, and what the text looks like there
_FIELDS = {
    "yyyy": ("%Y", r"\d{4}"), "uuuu": ("%Y", r"\d{4}"), "yy": ("%y", r"\d{2}"), "uu": ("%y", r"\d{2}"),
    "MM": ("%m", r"\d{2}"), "M": ("%-m", r"\d{1,2}"), "MMM": ("%b", r"[A-Za-z]{3}"), "MMMM": ("%B", r"[A-Za-z]+"),
    "dd": ("%d", r"\d{2}"), "d": ("%-d", r"\d{1,2}"), "EEE": ("%a", r"[A-Za-z]{3}"), "EEEE": ("%A", r"[A-Za-z]+"),
    "HH": ("%H", r"\d{2}"), "H": ("%-H", r"\d{1,2}"), "hh": ("%I", r"\d{2}"), "h": ("%-I", r"\d{1,2}"),
    "mm": ("%M", r"\d{2}"), "ss": ("%S", r"\d{2}"), "a": ("%p", r"[AaPp][Mm]"),
    "SSS": ("%g", r"\d{3}"), "SSSSSS": ("%f", r"\d{6}"),
    "Z": ("%z", r"[+-]\d{4}"), "ZZZZZ": ("%z", r"(Z|[+-]\d{2}:\d{2})"), "X": ("%z", r"(Z|[+-]\d{2})"),
    "XX": ("%z", r"(Z|[+-]\d{4})"), "XXX": ("%z", r"(Z|[+-]\d{2}:\d{2})"), "x": ("%z", r"[+-]\d{2}"),
    "xx": ("%z", r"[+-]\d{4}"), "xxx": ("%z", r"[+-]\d{2}:\d{2}"),
}  # fmt: skip
_TOKEN = re.compile(r"'(?P<quoted>(?:[^']|'')*)'|(?P<letters>([A-Za-z])\3*)|(?P<other>.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MomentFormat:
    """A format that texts are read by: strictly, as many digits as it has letters."""

    written: str
    directives: str
    pattern: str
    zoned: bool

    @classmethod
    def of(cls, written: str) -> MomentFormat:
        """Raises ValueError for letters that cannot be read faithfully."""
        directives = pattern = ""
        for token in _TOKEN.finditer(written):
            letters = token["letters"]
            if letters is None:
                literal = token["other"] if token["quoted"] is None else (token["quoted"].replace("''", "'") or "'")
                directives += literal.replace("%", "%%")
                pattern += re.escape(literal)
            elif letters in _FIELDS:
                directive, looks = _FIELDS[letters]
                directives += directive
                pattern += looks
            elif letters == "T":  # ISO 8601, which people write without the quotes
                directives, pattern = directives + "T", pattern + "T"
            else:
                raise ValueError(f"{letters!r} in the format {written!r} cannot be read; these can: {', '.join(_FIELDS)}")
        return cls(written, directives, f"^{pattern}$", "%z" in directives)

    def read(self, text: pa.StringArray) -> TypedColumn:
        """Microseconds since 1970 as timestamps in UTC (times of day on 1900-01-01); what does not fit is malformed."""
        fits = np.asarray(pc.fill_null(pc.match_substring_regex(text, self.pattern), False))
        ready = pc.replace_substring_regex(text, "Z$", "+00:00") if self.zoned else text
        table = pa.table({"written": pc.if_else(pa.array(fits), ready, None)})
        micros = self._prepared(table.schema).run(table) if len(text) else np.zeros(0, np.int64)
        malformed = np.asarray(pc.is_valid(text)) & (micros == NEVER_VALUE)
        values = pa.array(micros, pa.int64(), mask=micros == NEVER_VALUE).cast(pa.timestamp("us", "UTC"))
        return TypedColumn(values, malformed)

    def _prepared(self, schema: pa.Schema) -> Prepared:
        literal = self.directives.replace("'", "''")
        return session().prepare(schema, f"coalesce(epoch_us(try_strptime(written, '{literal}')), {NEVER})")
