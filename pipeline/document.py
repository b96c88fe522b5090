"""A YAML file with the line of everything in it, and variables of the environment filled in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarstring import ScalarString

from pipeline.errors import ConfigError, Problem

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}|\$\$\{")
_LARGEST = 4 << 20
_MOST = 200_000
_DEEPEST = 60

Step = str | int


@dataclass(frozen=True, slots=True)
class Document:
    """The contents of a file as plain dicts, lists and scalars, and `lines`: path of keys -> line, from 1.

    `problems` are variables that are not set; their text is empty in `content`.
    """

    file: Path
    content: object
    lines: Mapping[tuple[Step, ...], int] = field(repr=False)
    problems: Sequence[Problem] = ()

    def line(self, path: Sequence[Step]) -> int:
        """The line of the deepest part of `path` that is in the file."""
        steps = tuple(path)
        while steps and steps not in self.lines:
            steps = steps[:-1]
        return self.lines.get(steps, 1)


def read_document(file: Path, environment: Mapping[str, str] | None = None, *, fill: bool = True) -> Document:
    """Reads a YAML file. Raises ConfigError for one that isn't there, isn't YAML, or names variables that aren't set (all of them).

    `fill` is false for files in which `${…}` is only text.
    """
    variables = None if not fill else os.environ if environment is None else environment
    try:
        if file.stat().st_size > _LARGEST:
            raise ConfigError(f"{file} is larger than {_LARGEST >> 20} MB", hint="this is not a file that describes a pipeline")
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from error
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError.of([Problem(f"not valid YAML: {error.problem}", file, mark.line + 1 if mark else None)]) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError.of([Problem(f"not valid YAML: {error}", file)]) from error
    lines: dict[tuple[Step, ...], int] = {(): 1}
    problems: list[Problem] = []
    content = _plain(tree, (), 1, lines, variables, problems, file)
    return Document(file, content, lines, problems)


def _plain(
    node: object,
    path: tuple[Step, ...],
    line: int,
    lines: dict[tuple[Step, ...], int],
    variables: Mapping[str, str] | None,
    problems: list[Problem],
    file: Path,
) -> object:
    lines[path] = line
    if len(lines) > _MOST or len(path) > _DEEPEST:
        raise ConfigError.of([Problem("too large or too deep (an alias that holds itself?)", file, line)])
    if isinstance(node, CommentedMap):
        found: dict[str, object] = {}
        for key, value in node.items():
            at = node.lc.key(key)[0] + 1 if key in (node.lc.data or {}) else line
            found[str(key)] = _plain(value, (*path, str(key)), at, lines, variables, problems, file)
        return found
    if isinstance(node, CommentedSeq):
        return [_plain(value, (*path, i), node.lc.item(i)[0] + 1, lines, variables, problems, file) for i, value in enumerate(node)]
    if isinstance(node, str):
        return str(node) if variables is None else _filled(str(node), line, variables, problems, file)
    return _scalar(node)


def _scalar(node: object) -> object:
    """ruamel's round-trip scalars as Python's own; a date stays the text that it was."""
    if isinstance(node, date):
        return node.isoformat()
    for kind in (bool, int, float):
        if isinstance(node, kind):
            return kind(node)
    return str(node) if isinstance(node, ScalarString) else node


def _filled(text: str, line: int, variables: Mapping[str, str], problems: list[Problem], file: Path) -> str:
    def value(found: re.Match[str]) -> str:
        name, default = found["name"], found["default"]
        if name is None:
            return "${"
        if variables.get(name):
            return variables[name]
        if default is not None:
            return str(default[2:])
        hint = f"set it, or give a default: ${{{name}:-default}}"
        problems.append(Problem(f"the environment variable {name} is not set", file, line, hint))
        return ""

    return _VARIABLE.sub(value, text)
