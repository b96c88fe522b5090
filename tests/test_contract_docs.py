"""The page for data owners names everything that a contract can say, and its examples are sound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quality.contract_reading import load_contract
from quality.library_metrics import METRICS
from quality.odcs_schema import OPERATORS
from quality.patterns import FORMATS
from quality.rules import OPERATIONS, Action

PAGE = Path(__file__).parents[1] / "docs" / "contracts.md"
WORDS = [*METRICS, *OPERATORS, *FORMATS, *Action, *OPERATIONS, "breaker", "order", "approval", "audit", "mostly", "{object}", "{property}"]
EXAMPLES = [text for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL) if text.startswith("apiVersion")]


@pytest.mark.parametrize("word", WORDS)
def test_the_page_names_it(word: str) -> None:
    assert re.search(rf"`[^`\n]*{re.escape(word)}[^`\n]*`", PAGE.read_text())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: re.findall(r"id: (\w+)", text)[0])
def test_an_example_is_sound(example: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(example)
    assert load_contract(tmp_path / "c.yaml").rules


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
