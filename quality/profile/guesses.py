"""Text that is always something narrower: a number, a date, a boolean, JSON, an address.

A guess is tried with the very functions by which rules read text, so that what is guessed is what a contract will see. It is
dropped with the first value that it cannot read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.contract import Property
from quality.patterns import FORMATS, Matches, ecma
from quality.reading import read_values

Fits = Callable[[pa.StringArray], bool]

_MOMENT_FORMATS = (
    "dd.MM.yyyy", "d.M.yyyy", "dd/MM/yyyy", "MM/dd/yyyy", "yyyy/MM/dd", "dd-MM-yyyy", "MM-dd-yyyy", "dd MMM yyyy", "MMM dd, yyyy",
    "dd.MM.yyyy HH:mm", "dd.MM.yyyy HH:mm:ss", "dd/MM/yyyy HH:mm", "dd/MM/yyyy HH:mm:ss", "MM/dd/yyyy HH:mm", "MM/dd/yyyy HH:mm:ss",
    "yyyy/MM/dd HH:mm:ss",
)  # fmt: skip
_MOST_DIGITS = 18  # longer runs of digits are names of things, not amounts
_WORDS = r"^(?i:true|false|yes|no|t|f|y|n|on|off)$"
_INTEGER = rf"^[+-]?(0|[1-9][0-9]{{0,{_MOST_DIGITS - 1}}})$"
_NUMBER = r"^[+-]?((0|[1-9][0-9]{0,30})(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})?$"
_TEXT_FORMATS = ("email", "uri", "ipv4", "ipv6")
_HEAD = 200


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """What a column of text may be: the type that a contract would say, and whether texts are all of it."""

    name: str
    logical: str
    fits: Fits
    format: str | None = None

    @property
    def property(self) -> Property:
        options = {"format": self.format} if self.format else {}
        return Property(self.name, self.name, 0, logical_type=self.logical, options=options)


class Guesses:
    """The guesses about one column that no value has proved wrong yet. `free`: also what is no text by itself may be written as one
    (numbers, booleans, JSON)."""

    def __init__(self, *, free: bool) -> None:
        self._alive: list[Guess] | None = None
        self._free = free
        self._seen = False

    def add(self, texts: pa.StringArray) -> None:
        """More values, without nulls; each needs to be told only once."""
        if not len(texts):
            return
        self._seen = True
        alive = (free_guesses() if self._free else ()) + guesses() if self._alive is None else tuple(self._alive)
        head = texts.slice(0, _HEAD)
        self._alive = [guess for guess in alive if guess.fits(head) and (len(texts) <= _HEAD or guess.fits(texts))]

    @property
    def type(self) -> Guess | None:
        """The narrowest type that fits; None where none does, or where two ways to write dates do, of which nobody knows which is meant."""
        found = [guess for guess in self._alive or () if guess.name not in _TEXT_FORMATS]
        return None if not found or self.ambiguous else found[0]

    @property
    def format(self) -> str | None:
        """The standard's format that all texts have, if one."""
        return next((guess.name for guess in self._alive or () if guess.name in _TEXT_FORMATS), None)

    @property
    def ambiguous(self) -> tuple[str, ...]:
        """Ways to write dates that all fit, where there is more than one."""
        formats = [guess.format for guess in self._alive or () if guess.format is not None and guess.logical != "string"]
        if "dd.MM.yyyy" in formats:  # says the same of such a text as its laxer twin
            formats = [written for written in formats if written != "d.M.yyyy"]
        return tuple(formats) if len(formats) > 1 else ()


@cache
def free_guesses() -> tuple[Guess, ...]:
    """What text may be where everything is text."""
    return (
        Guess("boolean", "boolean", _reads("boolean", _WORDS)),
        Guess("integer", "integer", _reads("integer", _INTEGER)),
        Guess("number", "number", _reads("number", _NUMBER)),
        Guess("object", "object", _reads("object", r"^\s*\{")),
        Guess("array", "array", _reads("array", r"^\s*\[")),
    )


@cache
def guesses() -> tuple[Guess, ...]:
    """What text may be anywhere; the narrowest first."""
    named = [
        Guess("date", "date", _reads("date", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")),
        Guess("timestamp", "timestamp", _reads("timestamp", r"^[0-9]{4}-")),
        Guess("time", "time", _reads("time", r"^[0-9]{2}:")),
        Guess("uuid", "string", _matches(ecma(FORMATS["uuid"] or "")), "uuid"),
    ]
    for written in _MOMENT_FORMATS:
        logical = "timestamp" if "H" in written else "date"
        named.append(Guess(written, logical, _reads(logical, None, written), written))
    named += [Guess(name, "string", _matches(ecma(FORMATS[name] or ""))) for name in _TEXT_FORMATS]
    return tuple(named)


def _matches(matches: Matches) -> Fits:
    return lambda texts: bool(matches(texts).all())


def _reads(logical: str, shape: str | None, written: str | None = None) -> Fits:
    prop = Property("", "", 0, logical_type=logical, options={"format": written} if written else {})
    held, moment = prop.held(), prop.format
    assert held is not None  # noqa: S101  (every logical type is held somehow in a file)

    looks = moment.pattern if moment is not None else shape or ""

    def fits(texts: pa.StringArray) -> bool:
        if not pc.all(pc.match_substring_regex(texts, looks), min_count=0).as_py():
            return False
        return not np.any(read_values(texts, held, by=moment).malformed)

    return fits
