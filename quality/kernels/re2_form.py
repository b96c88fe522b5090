"""Python's regular expressions as RE2 patterns that give the same answer on ASCII text.

Great Expectations searches with Python's `re`; Arrow has RE2, which is twenty times faster and means other things by \\d, \\w, \\s,
`$` and case. So nothing is passed through: the pattern is parsed by Python's own parser, and what it means for ASCII text is
written out for RE2, each class as the set of its ASCII characters. What RE2 has no words for (lookaround, references, atomic
groups, \\B) or would only say roughly is not translated.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_parser: Any = re._parser  # type: ignore[attr-defined]  # the only way to know what Python makes of a pattern
_names: Any = re._constants  # type: ignore[attr-defined]

_ALL = frozenset(range(128))
_NEWLINE = frozenset({10})
_DIGIT = frozenset(range(48, 58))
_WORD = _DIGIT | frozenset(range(65, 91)) | frozenset(range(97, 123)) | frozenset({95})
_SPACE_ASCII = frozenset({9, 10, 11, 12, 13, 32})
_SPACE = _SPACE_ASCII | frozenset(range(28, 32))
_MOST_REPEATS = 1000  # RE2 refuses more


@dataclass(frozen=True)
class Re2Form:
    """`alone` is searched for in one ASCII text. `line` matches the whole of an ASCII text without newlines if and only if the
    pattern is found in it; None where that cannot be said."""

    alone: str
    line: str | None


class _Untranslatable(Exception):  # noqa: N818  (a signal, not an error)
    """RE2 cannot say this."""


def translate(pattern: str) -> Re2Form | None:
    """The RE2 forms of a pattern that Python compiles, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = _parser.parse(pattern)
        flags = parsed.state.flags
        alone = _Writer(lines=False).sequence(list(parsed), flags, tail=True)
        if not _compiles(alone):
            return None
    except _Untranslatable:
        return None
    try:
        line = _Writer(lines=True).line(list(parsed), flags)
    except _Untranslatable:
        return Re2Form(alone, None)
    return Re2Form(alone, line if _compiles(all_lines(line)) else None)


def all_lines(line: str) -> str:
    """The RE2 pattern of texts whose lines are all of a form; of no text at all it says nothing."""
    return rf"\A(?:(?:{line})\n)*(?:{line})\z"


def some_line(line: str) -> str:
    """The RE2 pattern that is found in texts of which at least one line is of a form."""
    return f"(?m:^)(?:{line})(?m:$)"


def either(forms: Sequence[Re2Form]) -> Re2Form:
    """The form that is found where one of the forms is."""
    lines = [form.line for form in forms if form.line is not None]
    alone = "|".join(f"(?:{form.alone})" for form in forms)
    return Re2Form(alone, "|".join(f"(?:{line})" for line in lines) if len(lines) == len(forms) else None)


def _compiles(pattern: str) -> bool:
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid:
        return False
    return True


class _Writer:
    """Writes parsed patterns for RE2. With `lines`, the text is one line of many and has no newline of its own."""

    def __init__(self, lines: bool) -> None:
        self._lines = lines
        self._rest = _klass(_ALL - _NEWLINE) + "*"

    def line(self, items: list[Any], flags: int) -> str:
        """The whole line in which the sequence is found."""
        if len(items) == 1:
            name, value = items[0]
            if name is _names.BRANCH:
                return "(?:" + "|".join(self.line(list(one), flags) for one in value[1]) + ")"
            if name is _names.SUBPATTERN:
                return self.line(list(value[3]), _changed(flags, value))
        start = 0
        while start < len(items) and _is_at(items[start], "AT_BEGINNING", "AT_BEGINNING_STRING"):
            start += 1
        stop = len(items)
        while stop > start and _is_at(items[stop - 1], "AT_END", "AT_END_STRING"):
            stop -= 1
        core = items[start:stop]
        if len(core) == 1 and (start or stop < len(items)):
            name, value = core[0]
            if name in (_names.BRANCH, _names.SUBPATTERN) and _has_anchor(core):
                ends = items[:start], items[stop:]
                options = [list(one) for one in value[1]] if name is _names.BRANCH else [list(value[3])]
                inner = flags if name is _names.BRANCH else _changed(flags, value)
                return "(?:" + "|".join(self.line([*ends[0], *one, *ends[1]], inner) for one in options) + ")"
        first = "" if start else self._rest
        last = "" if stop < len(items) else self._rest
        head = self._edge(core[0], flags, at_head=True) if core and not start else None
        tail = self._edge(core[-1], flags, at_head=False) if len(core) > 1 and stop == len(items) else None
        if head is not None:
            core, first = core[1:], head
        if tail is not None:
            core, last = core[:-1], tail
        return first + self.sequence(core, flags, tail=False) + last

    def _edge(self, item: Any, flags: int, at_head: bool) -> str | None:
        """A first or last group of which some alternatives are anchored; None for anything else."""
        name, value = item
        if name not in (_names.BRANCH, _names.SUBPATTERN) or not _has_anchor([item]):
            return None
        inner = flags if name is _names.BRANCH else _changed(flags, value)
        options = [list(one) for one in value[1]] if name is _names.BRANCH else [list(value[3])]
        written = []
        for one in options:
            if at_head:
                anchored = bool(one) and _is_at(one[0], "AT_BEGINNING", "AT_BEGINNING_STRING")
                written.append(("" if anchored else self._rest) + self.sequence(one[1:] if anchored else one, inner, tail=False))
            else:
                anchored = bool(one) and _is_at(one[-1], "AT_END", "AT_END_STRING")
                written.append(self.sequence(one[:-1] if anchored else one, inner, tail=False) + ("" if anchored else self._rest))
        return "(?:" + "|".join(written) + ")"

    def sequence(self, items: Sequence[Any], flags: int, *, tail: bool) -> str:
        """Items one after the other. `tail` says that nothing comes after them."""
        written = []
        for item in reversed(items):
            written.append(self._item(item, flags, tail))
            tail = tail and _is_at(item, "AT_END")  # at one place all of these hold, or none
        return "".join(reversed(written))

    def _item(self, item: tuple[Any, Any], flags: int, tail: bool) -> str:
        name, value = item
        if name in (_names.LITERAL, _names.NOT_LITERAL, _names.IN):
            return self._set(_members(item, flags))
        if name is _names.ANY:
            return self._set(_ALL if flags & re.DOTALL else _ALL - _NEWLINE)
        if name is _names.BRANCH:
            return "(?:" + "|".join(self.sequence(list(one), flags, tail=tail) for one in value[1]) + ")"
        if name is _names.SUBPATTERN:
            return "(?:" + self.sequence(list(value[3]), _changed(flags, value), tail=tail) + ")"
        if name in (_names.MAX_REPEAT, _names.MIN_REPEAT):
            least, most, inner = value
            endless = most is _names.MAXREPEAT
            if least > _MOST_REPEATS or (not endless and most > _MOST_REPEATS):
                raise _Untranslatable
            written = self.sequence(list(inner), flags, tail=tail and most == 1)
            return f"(?:{written}){{{least},{'' if endless else most}}}"
        if name is _names.AT:
            return self._at(value, flags, tail)
        raise _Untranslatable

    def _at(self, where: Any, flags: int, tail: bool) -> str:
        if where is _names.AT_BOUNDARY:
            return r"\b"
        if self._lines:  # the ends of lines are found by `line`
            raise _Untranslatable
        if where is _names.AT_BEGINNING_STRING or (where is _names.AT_BEGINNING and not flags & re.MULTILINE):
            return r"\A"
        if where is _names.AT_BEGINNING:
            return "(?m:^)"
        if where is _names.AT_END_STRING:
            return r"\z"
        if where is _names.AT_END and flags & re.MULTILINE:
            return "(?m:$)"
        if where is _names.AT_END and tail:
            return r"\n?\z"  # also before a last newline; what follows is nothing, so it may be eaten
        raise _Untranslatable

    def _set(self, members: frozenset[int]) -> str:
        return _klass(members - _NEWLINE if self._lines else members)


def _members(item: tuple[Any, Any], flags: int) -> frozenset[int]:
    """The ASCII characters that a class matches."""
    name, value = item
    if name is _names.LITERAL:
        return _cases(value, value, flags)
    if name is _names.NOT_LITERAL:
        return _ALL - _cases(value, value, flags)
    found: frozenset[int] = frozenset()
    negated = False
    for kind, what in value:
        if kind is _names.NEGATE:
            negated = True
        elif kind is _names.LITERAL:
            found |= _cases(what, what, flags)
        elif kind is _names.RANGE:
            found |= _cases(what[0], what[1], flags)
        elif kind is _names.CATEGORY:
            found |= _category(what, flags)
        else:
            raise _Untranslatable
    return _ALL - found if negated else found


def _cases(low: int, high: int, flags: int) -> frozenset[int]:
    if not flags & re.IGNORECASE:
        return frozenset(range(low, min(high, 127) + 1))
    if high > 127:  # some letters beyond ASCII fold to ASCII ones
        raise _Untranslatable
    return frozenset(c for c in _ALL if low <= ord(chr(c).lower()) <= high or low <= ord(chr(c).upper()) <= high)


def _category(what: Any, flags: int) -> frozenset[int]:
    space = _SPACE_ASCII if flags & re.ASCII else _SPACE
    kinds = {
        _names.CATEGORY_DIGIT: _DIGIT, _names.CATEGORY_NOT_DIGIT: _ALL - _DIGIT, _names.CATEGORY_WORD: _WORD,
        _names.CATEGORY_NOT_WORD: _ALL - _WORD, _names.CATEGORY_SPACE: space, _names.CATEGORY_NOT_SPACE: _ALL - space,
    }  # fmt: skip
    if what not in kinds:
        raise _Untranslatable
    return kinds[what]


def _klass(members: frozenset[int]) -> str:
    """A class of ASCII characters as RE2 reads it; the empty one matches nothing."""
    if not members:
        return r"[^\x00-\x{10FFFF}]"
    ranges: list[list[int]] = []
    for code in sorted(members):
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(rf"\x{low:02x}" if low == high else rf"\x{low:02x}-\x{high:02x}" for low, high in ranges) + "]"


def _changed(flags: int, group: tuple[Any, ...]) -> int:
    return int((flags | group[1]) & ~group[2])


def _is_at(item: tuple[Any, Any], *places: str) -> bool:
    return item[0] is _names.AT and any(item[1] is getattr(_names, place) for place in places)


def _has_anchor(items: Sequence[Any]) -> bool:
    for name, value in items:
        if name is _names.AT and value is not _names.AT_BOUNDARY:
            return True
        if name is _names.BRANCH and any(_has_anchor(list(one)) for one in value[1]):
            return True
        if name is _names.SUBPATTERN and _has_anchor(list(value[3])):
            return True
    return False
