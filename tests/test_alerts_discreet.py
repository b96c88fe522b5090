"""What leaves the house holds no secret and no value; a command can be copied, whatever is in it."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.quarantine import Reason
from quality.alerts.discreet import cause_told, command, error_told
from quality.alerts.payload import clean, percent


@pytest.mark.parametrize(
    "error",
    [
        'value "ann" is not valid',
        "Could not convert string 'ann' to INT32",
        "Key (email)=(ann) exists",
        "duplicate key (name, email)=(ann, x)",
        "bad address ann@example.com",
        "a line\nDETAIL: ann",
        "password=ann",
        "postgresql://user:ann@host/db is away",
        "column `note` of ann12: 98ann",
    ],
)
def test_an_error_of_a_sensitive_dataset_tells_no_value(error: str) -> None:
    assert "ann" not in error_told(error, sensitive=True)


def test_an_error_tells_what_happened_in_one_line_and_no_secret() -> None:
    said = error_told('the column "amount" is gone; password=hunter2\n  hint: bring it back', sensitive=False)
    assert said == 'the column "amount" is gone; password=***'
    assert error_told("the table has stopped", sensitive=True) == "the table has stopped"


def test_a_cause_without_a_contract_tells_the_rule_and_the_shape() -> None:
    reason = Reason("undecodable", "note", 'not UTF-8, got "x"', "x")
    assert cause_told(reason, "a9", None, sensitive=False, shaped=True) == "undecodable on note: not UTF-8; values like a9"
    assert cause_told(reason, "a9", None, sensitive=True, shaped=False) == "undecodable on note"
    assert cause_told(Reason("rows", None, "(x)"), "null", None, sensitive=False, shaped=True) == "rows; values like null"


@settings(max_examples=10)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4))
def test_a_command_reaches_the_shell_as_it_was_meant(words: list[str]) -> None:
    shown = command("printf", "%s\\0", *words, "end")
    assert shown.isprintable()
    done = subprocess.run(["bash", "-c", shown], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == [*words, "end"]


@given(st.text(), st.integers(1, 50))
def test_a_text_becomes_one_printable_line_of_bounded_length(text: str, longest: int) -> None:
    shown = clean(text, longest)
    assert shown.isprintable()
    assert len(shown) <= longest
    assert shown == text or not text.isprintable() or len(text) > longest


def test_a_share_is_never_nothing_nor_all_where_it_is_not() -> None:
    assert [percent(share) for share in (1e-9, 0.0004, 0.0416, 0.5, 0.99999, 1.0)] == [
        "under 0.01 %", "0.04 %", "4.2 %", "50 %", "99.9 %", "100 %",
    ]  # fmt: skip
