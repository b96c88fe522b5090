"""Regular expressions: what RE2 is given says of ASCII text what Python's re says, and all else goes to Python."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quality.column import Column
from quality.frame import Frame
from quality.kernels import BadExpectation, RowVerdict, compile_expectation
from quality.kernels.re2_form import translate
from quality.kernels.regexes import Patterns, find
from tests.kernel_values import REGEXES

warnings.simplefilter("ignore", FutureWarning)

ALPHABET = "ab A1_-.\n\t\x1c\x00"
LETTERS = st.sampled_from(
    [
        *"abcAZk019_-., ",
        r"\d",
        r"\w",
        r"\s",
        r"\D",
        r"\W",
        r"\S",
        ".",
        "[ab]",
        "[^a]",
        r"[\d_]",
        r"[^\s-]",
        "[a-c]",
        r"\n",
        r"\x00",
        "é",
        "[à-z]",
    ]
)
ANCHORS = st.sampled_from(["^", "$", r"\A", r"\Z", r"\b", r"\B"])


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = st.builds("(?:{})".format, inner)
    return st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map("|".join).map("(?:{})".format),
        st.builds("({})".format, inner),
        st.builds("{}{}".format, group, st.sampled_from(["*", "+", "?", "*?", "{2}", "{1,2}", "{0,}"])),
        st.builds("(?i:{})".format, inner),
        st.builds("(?s:{})".format, inner),
    )


PATTERNS = st.builds(
    "{}{}".format,
    st.sampled_from(["", "", "", "(?i)", "(?m)", "(?s)", "(?a)", "(?im)"]),
    st.recursive(st.one_of(LETTERS, LETTERS, ANCHORS), combined, max_leaves=8),
)
TEXTS = st.lists(st.text(alphabet=ALPHABET, max_size=6), min_size=1, max_size=12)


def compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


@settings(max_examples=300)
@given(PATTERNS.filter(compiles), TEXTS)
@example(r"(b$|a)\Z", ["b\n", "b", "a", "a\n"])
@example(r"b$\Z", ["b\n", "b"])
@example("^a|b$|c", ["xa", "a", "b\n", "bx", "xc"])
@example("$", ["", "\n", "a"])
@example("(?m)^", ["", "\n", "a\n"])
@example("(?:a$|b)a", ["aa", "ba", "a\na"])
@example(r"\B", ["", "a", "ab"])
@example("(?:$)*a", ["a", "b"])
@example("(^|a)(b|$)", ["b", "ab", "a", "c", "cab"])
def test_a_translated_pattern_says_of_ascii_text_what_python_says(pattern: str, texts: list[str]) -> None:
    form = translate(pattern)
    if form is None:
        return
    expected = [re.search(pattern, text) is not None for text in texts]
    assert pc.match_substring_regex(pa.array(texts), form.alone).to_pylist() == expected, form.alone
    if form.line is not None:
        lines = [text.replace("\n", "") for text in texts]
        wanted = [re.search(pattern, line) is not None for line in lines]
        assert pc.match_substring_regex(pa.array(lines), rf"\A(?:{form.line})\z").to_pylist() == wanted, form.line
        for usual in (True, False):
            assert find(Column(pa.array(lines)), form, usual=usual).tolist() == wanted
            alike = [line for line, fits in zip(lines, wanted, strict=True) if fits == usual]
            assert (find(Column(pa.array(alike, pa.string())), form, usual=usual) == usual).all()


@settings(max_examples=200)
@given(
    st.sampled_from(REGEXES),
    st.lists(st.one_of(st.none(), st.text(max_size=5), st.sampled_from(["é", "ſ", "K", "٣", "a\n", "ß", "a\x00b"])), max_size=12),
)
def test_any_text_is_searched_as_python_searches_it(pattern: str, texts: list[str | None]) -> None:
    column = pa.array(texts, pa.string())
    verdict = compile_expectation("expect_column_values_to_match_regex", {"column": "a", "regex": pattern}, {"a": pa.string()}).judge(
        Frame({"a": column}, len(texts))
    )
    assert isinstance(verdict, RowVerdict)
    assert verdict.failed.tolist() == [text is not None and re.search(pattern, text) is None for text in texts]


@given(st.lists(st.sampled_from(REGEXES), min_size=1, max_size=3), st.lists(st.text(alphabet="abA1 ", max_size=3), max_size=12))
@example(["^a$", "^b$"], ["ab", "b", "a"])
@example(["^a$", "^b$"], ["ab", "b"])
@example(["^b$", "^a"], ["c", "b"])
def test_any_all_and_none_of_several_patterns_are_found_where_python_finds_them(patterns: list[str], texts: list[str]) -> None:
    found = [[re.search(pattern, text) is not None for pattern in patterns] for text in texts]
    for kind, more, failing in (
        ("expect_column_values_to_match_regex_list", {"match_on": "any"}, [not any(one) for one in found]),
        ("expect_column_values_to_match_regex_list", {"match_on": "all"}, [not all(one) for one in found]),
        ("expect_column_values_to_not_match_regex_list", {}, [any(one) for one in found]),
    ):
        verdict = compile_expectation(kind, {"column": "a", "regex_list": patterns, **more}, {"a": pa.string()}).judge(
            Frame({"a": pa.array(texts, pa.string())}, len(texts))
        )
        assert isinstance(verdict, RowVerdict)
        assert verdict.failed.tolist() == failing, more


@pytest.mark.parametrize(
    "pattern, text",
    [
        (r"^\d$", "٣"),  # digits beyond ASCII
        (r"^\w$", "é"),
        (r"\s", "\x1c"),  # Python's white space is wider
        (r"\s", "\x0b"),
        ("a$", "a\n"),  # before a last newline
        (r"(?=a)", "ba"),  # lookaround
        (r"(a)\1", "aa"),
        ("(?i)k", "K"),  # the Kelvin sign
        ("b", "abc"),  # it searches
    ],
)
def test_python_finds_more_than_re2_would(pattern: str, text: str) -> None:
    assert re.search(pattern, text)
    assert Patterns([pattern], "regex").found(Column(pa.array([text, "-"]))).tolist() == [True, False]


def test_patterns_that_re2_can_say_are_not_left_to_python() -> None:
    for pattern in (r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$", r"^[A-Z]{2}-\d{6}$", r"\d", "^(?:EUR|USD)$", r"^\+?[0-9 ]+$", "(?i)^true$"):
        form = translate(pattern)
        assert form is not None, pattern
        assert form.line is not None, pattern


@pytest.mark.parametrize("pattern", ["(", r"\p{L}", "*", "[[:alpha:]]", "(?<=a+)b"])
def test_a_pattern_that_python_does_not_compile_is_refused(pattern: str) -> None:
    with pytest.raises(BadExpectation, match="regex") as caught:
        compile_expectation("expect_column_values_to_match_regex", {"column": "a", "regex": pattern}, None)
    assert caught.value.argument == "regex"


def test_long_columns_are_judged_in_pieces_and_each_failing_row_is_found() -> None:
    texts = [f"AB-{at:06d}" for at in range(100_000)]
    texts[70_000] = "AB-7000"
    texts[99_999] = "x"
    found = Patterns([r"^[A-Z]{2}-\d{6}$"], "regex").found(Column(pa.array(texts)))
    assert np.flatnonzero(~found).tolist() == [70_000, 99_999]


def test_sliced_and_chunked_columns_are_judged_where_they_are() -> None:
    chunked = pa.chunked_array([pa.array(["x", "a1", None]).slice(1), pa.array(["b2", "3"])])
    assert Patterns([r"^[a-z]\d$"], "regex").found(Column(chunked))[[0, 2, 3]].tolist() == [True, True, False]
