"""Trace contexts as W3C has them: what is taken, what is ignored, and the ids of changes that came without."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journal.trace_context import LENGTH, MOST_STATE, Headers, Traces, contexts_of, headers_of, parent_of, state_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
_VALID = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")

_lower = st.text("0123456789abcdef", min_size=2, max_size=2)


def _hex(digits: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=digits, max_size=digits)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Headers as they should be, nearly so, and not at all."""
    zero = st.sampled_from(["0"])
    version = draw(st.sampled_from(["00", "00", "00", "01", "cc", "fe", "ff", "0", "0x", "FF"]) | _lower)
    trace, span = draw(_hex(32) | zero.map(lambda one: one * 32)), draw(_hex(16) | zero.map(lambda one: one * 16))
    whole = f"{version}-{trace}-{span}-{draw(_lower)}{draw(st.sampled_from(['', '', '', '-', '-more', 'x', '-é']))}".encode()
    if draw(st.booleans()):
        return whole
    at = draw(st.integers(0, len(whole)))
    return draw(st.sampled_from([whole[:at], whole[:at] + draw(st.binary(max_size=2)) + whole[at + 1 :], whole.upper(), whole + b"\n"]))


def _meant(header: bytes) -> str | None:
    """The recommendation, step by step."""
    try:
        text = header.decode("ascii")
    except UnicodeDecodeError:
        text = header[:56].decode("latin-1")
    digits = set("0123456789abcdef")
    if len(text) < 55 or not set(text[:2]) <= digits or text[:2] == "ff" or text[2] != "-":
        return None
    if text[:2] == "00" and len(header) != 55:
        return None
    trace, span, flags = text[3:35], text[36:52], text[53:55]
    if not set(trace) <= digits or trace == "0" * 32 or text[35] != "-":
        return None
    if not set(span) <= digits or span == "0" * 16 or text[52] != "-":
        return None
    if not set(flags) <= digits or (len(text) > 55 and text[55] != "-"):
        return None
    return f"00-{trace}-{span}-{int(flags, 16) & 1:02x}"


@given(headers())
@example(PARENT.encode())
@example(f"ff-{TRACE}-{SPAN}-01".encode())
@example(f"00-{'0' * 32}-{SPAN}-01".encode())
@example(f"00-{TRACE}-{'0' * 16}-01".encode())
@example(f"00-{TRACE}-{SPAN}-01-more".encode())
@example(f"01-{TRACE}-{SPAN}-01-more".encode())
@example(f"01-{TRACE}-{SPAN}-01.more".encode())
@example(f"00-{TRACE.upper()}-{SPAN}-01".encode())
@example(b"")
def test_a_traceparent_is_read_as_the_recommendation_says(header: bytes) -> None:
    assert parent_of(header) == _meant(header)


@given(st.lists(headers(), min_size=1, max_size=20))
def test_many_are_read_as_each_is_alone(given_headers: list[bytes]) -> None:
    found = contexts_of([[("x", b"1"), ("traceparent", header)] for header in given_headers])
    meant = [parent_of(header) for header in given_headers]
    assert (found.to_pylist() if found is not None else [None] * len(meant)) == meant
    assert (found is None) == (set(meant) == {None})


@pytest.mark.parametrize(
    "flags, sampled", [("00", "00"), ("01", "01"), ("02", "00"), ("0f", "01"), ("fe", "00"), ("ab", "01"), ("ba", "00"), ("ff", "01")]
)
def test_of_the_flags_only_sampled_is_passed_on(flags: str, sampled: str) -> None:
    header = f"00-{TRACE}-{SPAN}-{flags}".encode()
    found = contexts_of([[("traceparent", header)]])
    assert found is not None
    assert [parent_of(header), *found.to_pylist()] == [f"00-{TRACE}-{SPAN}-{sampled}"] * 2


@pytest.mark.parametrize(
    "message, context",
    [
        ([("traceparent", PARENT.encode())], PARENT),
        ([("TraceParent", PARENT.encode())], PARENT),
        ([("traceparent", PARENT.encode()), ("traceparent", PARENT.encode())], None),
        ([("traceparent", PARENT.encode()), ("Traceparent", b"other")], None),
        ([("traceparent", PARENT.encode()), ("tracestate", b"a=1"), ("TRACESTATE", b"b=2")], f"{PARENT} a=1,b=2"),
        ([("traceparent", PARENT.encode()), ("tracestate", b"  ")], PARENT),
        ([("traceparent", PARENT.encode()), ("tracestate", b"a=\xff")], PARENT),
        ([("traceparent", b"wrong"), ("tracestate", b"a=1")], None),
        ([("tracestate", b"a=1")], None),
        ([], None),
    ],
)
def test_the_headers_of_a_message(message: Headers, context: str | None) -> None:
    beside: Headers = [("traceparent", f"00-{SPAN}{SPAN}-{SPAN}-00".encode())]
    found = contexts_of([beside, message, [("other", b"")]])
    assert found is not None
    assert found.to_pylist()[1:] == [context, None]
    if context is not None:
        again = contexts_of([headers_of(context)])
        assert again is not None
        assert again.to_pylist() == [context]


def test_messages_with_other_headers_cost_no_column() -> None:
    assert contexts_of([[("a", b"b")], []]) is None
    assert contexts_of([[("traceparent", b"")], []]) is None


@given(st.lists(st.text("abc=0129", min_size=1, max_size=300).map(str.encode), max_size=12))
def test_of_a_long_tracestate_whole_members_are_passed_on_from_the_left(members: list[bytes]) -> None:
    whole = b",".join(members)
    found = state_of(whole)
    text = whole.decode()
    if len(text) <= MOST_STATE:
        assert found == (text or None)
        return
    kept = (found or "").split(",") if found else []
    assert kept == [member.decode() for member in members][: len(kept)]
    assert len(found or "") <= MOST_STATE
    assert len(",".join(text.split(",")[: len(kept) + 1])) > MOST_STATE


@given(st.lists(st.integers(0, (1 << 63) - 1), min_size=1, max_size=30, unique=True), st.sampled_from(["one", "other"]))
def test_a_change_without_a_context_has_a_trace_of_its_own_that_every_process_finds(ordinals: list[int], journal: str) -> None:
    traces = Traces(journal)
    ids = [traces.id(ordinal) for ordinal in ordinals]
    assert len(set(ids)) == len(ids)
    numbers = np.array(ordinals, np.int64)
    parents, states = Traces(journal).spans("out", numbers, np.zeros(len(ids), np.int64), None)
    assert states is None
    assert [parent[3:35] for parent in parents.to_pylist()] == ids
    assert all(_VALID.fullmatch(parent) and parent.endswith("-00") for parent in parents.to_pylist())
    assert all(parent_of(parent.encode()) == parent for parent in parents.to_pylist())
    assert not set(ids) & {Traces("another").id(ordinal) for ordinal in ordinals}


def test_what_is_made_of_a_change_has_a_span_of_its_own_and_the_same_one_again() -> None:
    ordinals = np.array([7, 7, 8], np.int64)
    nth = np.array([0, 1, 0], np.int64)
    contexts = pa.array([f"{PARENT} a=1", f"{PARENT} a=1", None])
    parents, states = Traces("j").spans("out", ordinals, nth, contexts)
    again, _ = Traces("j").spans("out", ordinals[1:], nth[1:], contexts.slice(1))
    other, _ = Traces("j").spans("elsewhere", ordinals, nth, contexts)
    assert parents.to_pylist()[1:] == again.to_pylist()
    assert states is not None
    assert states.to_pylist() == ["a=1", "a=1", None]
    assert [parent[:36] for parent in parents.to_pylist()[:2]] == [PARENT[:36]] * 2
    assert [parent[-2:] for parent in parents.to_pylist()] == ["01", "01", "00"]
    spans = [parent[36:52] for column in (parents, other) for parent in column.to_pylist()]
    assert len({*spans, SPAN}) == 7
    assert {len(parent) for parent in parents.to_pylist()} == {LENGTH}


def test_derived_ids_never_change() -> None:
    assert Traces("journal-of-the-tests").id(1) == "41fe0e2e06a54b5c9012233806242b4f"
    assert Traces("any").id(1, f"{PARENT} a=1") == TRACE
