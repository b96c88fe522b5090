"""Regular expressions of the standard (those of ECMAScript) and its formats of text, over whole columns.

A pattern is searched for, not matched at the start, as in JSON Schema. Most run in Arrow's RE2, in which `$` is the end of the
text and \\d, \\w and \\b are ASCII, as in ECMAScript; what RE2 does not have (lookaround, backreferences) runs in Python over the
distinct values.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from quality.reading import UUID

Mask = npt.NDArray[np.bool_]
Matches = Callable[[pa.Array], Mask]

_SPACES = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}"
_LINE_ENDS = r"\n\r\x{2028}\x{2029}"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"{_BYTE}(\.{_BYTE}){{3}}"
_HEX = "[0-9A-Fa-f]{1,4}"
_IPV6 = "|".join(
    [rf"({_HEX}:){{7}}{_HEX}", rf"({_HEX}:){{6}}{_IPV4}", rf"({_HEX}:){{1,7}}:", rf"::({_HEX}:){{0,5}}{_IPV4}"]
    + [rf"({_HEX}:){{1,{n}}}(:{_HEX}){{1,{7 - n}}}" for n in range(1, 7)]
    + [rf"({_HEX}:){{1,{n}}}(:{_HEX}){{0,{5 - n}}}:{_IPV4}" for n in range(1, 6)]
    + [rf":((:{_HEX}){{1,7}}|:)"]
)
FORMATS: dict[str, str | None] = {
    "email": rf"^[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*@({_LABEL}\.)+{_LABEL}$",
    "uuid": UUID,
    "uri": r"^[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+$",
    "hostname": rf"^{_LABEL}(\.{_LABEL})*$",
    "ipv4": rf"^{_IPV4}$",
    "ipv6": rf"^({_IPV6})$",
    "byte": r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    "binary": None,
    "password": None,
}
"""Format -> the pattern that its texts match; None for a format that says how a text is treated, not what it is."""


def ecma(pattern: str) -> Matches:
    """Whether texts hold something that the pattern describes. Raises ValueError for one that is not a regular expression."""
    spelled = _translated(pattern, re2=True)
    try:
        pc.match_substring_regex(pa.array([""]), spelled)
    except pa.ArrowInvalid:
        return _in_python(pattern)
    return lambda texts: np.asarray(pc.fill_null(pc.match_substring_regex(texts, spelled), True))


def python_pattern(pattern: str) -> str:
    """The same pattern for Python's `re`. Raises ValueError."""
    spelled = "(?a)" + _translated(pattern, re2=False)
    try:
        re.compile(spelled)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error.msg}") from error
    return spelled


def _in_python(pattern: str) -> Matches:
    search = re.compile(python_pattern(pattern)).search

    def matches(texts: pa.Array) -> Mask:
        pair = texts.dictionary_encode()
        fits = np.array([search(text) is not None for text in pair.dictionary.to_pylist()] + [True])
        return np.asarray(fits[np.asarray(pc.fill_null(pair.indices, -1))])

    return matches


def _translated(pattern: str, *, re2: bool) -> str:
    """What differs between ECMAScript and the other two: `$`, `.`, `\\s`, names of groups, and, in Python, code points."""
    spaces, line_ends = (_SPACES, _LINE_ENDS) if re2 else (_for_python(_SPACES), _for_python(_LINE_ENDS))
    written = ""
    inside = False
    at = 0
    while at < len(pattern):
        one, two = pattern[at], pattern[at : at + 2]
        step = 1
        if one == "\\":
            step = 2
            written += _escape(pattern, at, two, spaces, inside=inside, re2=re2)
            if two == r"\u":
                step = 6
            elif two == r"\k" and (group := re.match(r"\\k<\w+>", pattern[at:])):
                step = group.end()
        elif inside:
            inside = one != "]"
            written += "\\[" if one == "[" else one
        elif one == "[":
            inside = True
            step = 2 if two == "[^" else 1
            written += pattern[at : at + step]
        elif one == "$":
            written += "$" if re2 else r"\Z"
        elif one == ".":
            written += f"[^{line_ends}]"
        elif pattern.startswith("(?<", at) and pattern[at + 3 : at + 4] not in ("=", "!"):
            written += "(?P<"
            step = 3
        else:
            written += one
        at += step
    return written


def _escape(pattern: str, at: int, two: str, spaces: str, *, inside: bool, re2: bool) -> str:
    if len(two) == 1:
        raise ValueError(f"{pattern!r} is not a regular expression: it ends in a backslash")
    if two == r"\s":
        return spaces if inside else f"[{spaces}]"
    if two == r"\S" and not inside:
        return f"[^{spaces}]"
    if two == r"\/":
        return "/"
    if two == r"\u":
        digits = pattern[at + 2 : at + 6]
        if not re.match(r"[0-9A-Fa-f]{4}$", digits):
            raise ValueError(f"{pattern!r} is not a regular expression: \\u wants four hexadecimal digits")
        return rf"\x{{{digits}}}" if re2 else rf"\u{digits}"
    if two == r"\k":
        group = re.match(r"\\k<(\w+)>", pattern[at:])
        return f"(?P={group[1]})" if group else two
    return two


def _for_python(text: str) -> str:
    return re.sub(r"\\x\{([0-9a-f]+)\}", lambda found: rf"\u{int(found[1], 16):04x}", text)
