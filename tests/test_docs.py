"""The docs name what there is, and point where something is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The script docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_of_the_commands_is_what_the_program_says(generate: ModuleType) -> None:
    assert generate.PAGE.read_text() == generate.page(), "run `make docs`"


def test_every_command_is_named_in_the_docs(generate: ModuleType) -> None:
    text = _text_of_the_docs()
    names = [" ".join(path) for path, _ in generate.commands(generate.command_tree())]
    assert "sluice run" in names
    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)] == []


def test_every_option_is_named_in_the_section_of_its_command(generate: ModuleType) -> None:
    sections = _sections(generate.PAGE.read_text())
    missing = [
        f"{' '.join(path)} {spelling}"
        for path, command in generate.commands(generate.command_tree())
        for option in generate.options(command)
        for spelling in (*option.opts, *option.secondary_opts)
        if not re.search(rf"(?<![\w-]){re.escape(spelling)}(?![\w-])", sections.get(" ".join(path), ""))
    ]
    assert missing == []


def test_every_command_has_a_help_with_a_first_sentence(generate: ModuleType) -> None:
    silent = [" ".join(path) for path, command in generate.commands(generate.command_tree()) if not (command.help or "").strip()]
    assert silent == []


def test_every_option_and_argument_has_a_help(generate: ModuleType) -> None:
    silent = [
        f"{' '.join(path)} {parameter.name}"
        for path, command in generate.commands(generate.command_tree())
        for parameter in (*generate.options(command), *generate.arguments(command))
        if not (parameter.help or "").strip()
    ]
    assert silent == []


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        destination = page if not name else page.parent / name
        if not destination.exists() or (anchor and anchor not in _anchors(destination)):
            broken.append(target)
    assert broken == []


def _text_of_the_docs() -> str:
    return "\n".join(page.read_text() for page in PAGES)


def _sections(text: str) -> dict[str, str]:
    heading, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    assert heading.startswith("# ")
    return {section.partition("\n")[0].strip(): section for section in rest}


def _without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ +(.+?) *$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
