"""A YAML file with the line of everything in it, and variables of the environment filled in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import ConfigError, Problem
from pipeline.yaml_tree import Items, Node, Pairs, Scalar, parse

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}|(?P<literal>\$\$\{)|(?P<broken>\$\{[^}\s]*\}?)")
_LARGEST = 4 << 20
_MOST = 200_000
_DEEPEST = 60

Step = str | int


@dataclass(frozen=True, slots=True)
class Document:
    """The contents of a file as plain dicts, lists and scalars, and `lines`: path of keys -> line, from 1.

    `problems` are what can be told together with whatever else is wrong: variables that are not set, whose text is empty in `content`;
    keys that are there twice, of which the first counts. `text` is what was read.
    """

    file: Path
    content: object
    lines: Mapping[tuple[Step, ...], int] = field(repr=False)
    problems: Sequence[Problem] = ()
    text: str = field(default="", repr=False)

    def line(self, path: Sequence[Step]) -> int:
        """The line of the deepest part of `path` that is in the file."""
        steps = tuple(path)
        while steps and steps not in self.lines:
            steps = steps[:-1]
        return self.lines.get(steps, 1)


def read_document(
    file: Path, environment: Mapping[str, str] | None = None, *, fill: bool = True, text: str | None = None, largest: int = _LARGEST
) -> Document:
    """Reads a YAML file, or `text` as if it stood there. Raises ConfigError for one that isn't there, isn't YAML, or has more bytes.

    `fill` is false for files in which `${…}` is only text; then the document has no problems: they are raised.
    """
    text = _text(file, largest) if text is None else text
    root, problems = parse(text, file)
    reading = _Reading(file, None if not fill else os.environ if environment is None else environment, problems)
    content = None if root is None else reading.plain(root, (), root.line)
    if problems and not fill:
        raise ConfigError.of(problems)
    return Document(file, content, reading.lines, problems, text)


def _text(file: Path, largest: int) -> str:
    try:
        with file.open("rb") as source:
            found = source.read(largest + 1)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", hint=_elsewhere(file)) from error
    except ValueError as error:
        raise ConfigError(f"{str(file)!r} is not the name of a file") from error
    if len(found) > largest:
        raise ConfigError(f"{file} is larger than {largest >> 20} MB", hint="this is not a file that a person has written")
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = found.count(b"\n", 0, error.start) + 1
        raise ConfigError.of([Problem("not UTF-8 text", file, line, "save the file as UTF-8")]) from error


def _elsewhere(file: Path) -> str | None:
    """A hint for a file that is not there: a folder stands for what is in it."""
    try:
        found = sorted(path.name for path in file.glob("*.y*ml")) if file.is_dir() else []
    except OSError:
        return None
    return f"it is a folder; name a file in it: {', '.join(found[:5])}" if found else None


class _Reading:
    """From nodes to plain values."""

    def __init__(self, file: Path, variables: Mapping[str, str] | None, problems: list[Problem]) -> None:
        self.file = file
        self.variables = variables
        self.problems = problems
        self.lines: dict[tuple[Step, ...], int] = {(): 1}
        self.steps = 0
        self.merging: list[Pairs] = []

    def plain(self, node: Node, path: tuple[Step, ...], line: int) -> object:
        self.lines[path] = line
        self.count(path, line)
        if isinstance(node, Items):
            return [self.plain(item, (*path, i), item.line) for i, item in enumerate(node.nodes)]
        if isinstance(node, Pairs):
            return self.mapping(node, path)
        return self.scalar(node, line)

    def count(self, path: tuple[Step, ...], line: int) -> None:
        self.steps += 1
        if self.steps > _MOST or len(path) > _DEEPEST:
            hint = "write out what `*` repeats, or give the file fewer levels and entries"
            raise ConfigError.of([Problem("too large or too deep (an alias that holds itself?)", self.file, line, hint)])

    def mapping(self, node: Pairs, path: tuple[Step, ...]) -> dict[str, object]:
        self.count(path, node.line)
        found = {key.text: self.plain(value, (*path, key.text), key.line) for key, value in node.nodes}
        for other in (one for named in node.merge for one in (named.nodes if isinstance(named, Items) else [named])):
            if not isinstance(other, Pairs):
                self.problems.append(Problem("`<<` takes a mapping, or a list of them", self.file, other.line))
            elif any(other is one for one in (node, *self.merging)):
                raise ConfigError.of([Problem("`<<` leads back to where it stands", self.file, node.line, "name another mapping")])
            else:
                self.merging.append(node)
                found = {**self.mapping(other, path), **found}
                self.merging.pop()
        return found

    def scalar(self, node: Scalar, line: int) -> object:
        if self.variables is not None and "${" in node.text:
            return self.filled(node.text, line, self.variables)
        try:
            return node.value()
        except ValueError:
            self.problems.append(Problem("a number with too many digits", self.file, line, "write it in quotes"))
            return node.text

    def filled(self, text: str, line: int, variables: Mapping[str, str]) -> str:
        def value(found: re.Match[str]) -> str:
            name, default = found["name"], found["default"]
            if found["literal"]:
                return "${"
            if found["broken"]:
                hint = "write ${NAME} or ${NAME:-default}; a ${ that is meant as it stands is $${"
                word = re.split(r"\W", found["broken"][2:])[0]  # what follows may be a secret
                self.problems.append(Problem(f"`${{{word}…` is not a variable", self.file, line, hint))
                return ""
            if variables.get(name):
                return variables[name]
            if default is not None:
                return str(default[2:])
            hint = f"set it, or give a default: ${{{name}:-default}}"
            state = "is empty" if name in variables else "is not set"
            self.problems.append(Problem(f"the environment variable {name} {state}", self.file, line, hint))
            return ""

        return _VARIABLE.sub(value, text)
