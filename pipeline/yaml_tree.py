"""YAML as a tree of nodes that know their lines: the core schema of YAML 1.2, and nothing that a file could do harm with.

Dates stay text, tags of one's own are refused, and so is a key that is there twice, which other readers silently lose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from pipeline.errors import ConfigError, Problem

_DEEPEST = 60
_CORE = "tag:yaml.org,2002:"
_KNOWN_TAGS = {None, "!", *(_CORE + name for name in ("str", "int", "float", "bool", "null", "map", "seq"))}
_NULL = re.compile(r"|~|null|Null|NULL")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(slots=True)
class Scalar:
    """One value: its text, and whether it stands there without quotes, so that it may be a number, true, false or null."""

    line: int
    text: str
    plain: bool

    def value(self) -> object:
        """Raises ValueError for a number that is too long."""
        text = self.text
        if not self.plain:
            return text
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
            return text[0] in "tT"
        if _INT.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return text


@dataclass(slots=True)
class Items:
    """A list."""

    line: int
    nodes: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Pairs:
    """A mapping; `merge` is what `<<` names, mappings or lists of them, which count where the mapping itself says nothing."""

    line: int
    nodes: list[tuple[Scalar, Node]] = field(default_factory=list)
    merge: list[Node] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    key: Scalar | None = None


Node = Scalar | Items | Pairs


def parse(text: str, file: Path) -> tuple[Node | None, list[Problem]]:
    """The one document of a text, None if it is empty, and what is wrong in it though it is YAML. Raises ConfigError for what isn't."""
    tree = _Tree(file)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            tree.take(event)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = error.problem or error.context or "it breaks off"
        line = mark.line + 1 if mark else None
        raise ConfigError.of([Problem(f"not valid YAML: {told}", file, line, _advice(told, text, line))]) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        hint = "take the character out; in double quotes it can be written as \\uXXXX"
        raise ConfigError.of([Problem(f"not valid YAML: {str(error).splitlines()[0]}", file, line, hint)]) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError.of([Problem(f"not valid YAML: {str(error).splitlines()[0]}", file, 1)]) from error
    return tree.root, tree.problems


def _advice(told: str, text: str, line: int | None) -> str | None:
    if "'\\t'" in told:
        return "indent with spaces, never with tabs"
    if line is not None and "'{'" in told and "${" in text.split("\n")[line - 1]:
        return 'between { and } a variable stands in quotes: {dsn: "${DSN}"}'
    return None


class _Tree:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.root: Node | None = None
        self.open: list[Items | Pairs] = []
        self.anchors: dict[str, Node] = {}
        self.problems: list[Problem] = []
        self.documents = 0

    def refuse(self, message: str, line: int, hint: str | None = None) -> ConfigError:
        return ConfigError.of([Problem(message, self.file, line, hint)])

    def take(self, event: object) -> None:
        if isinstance(event, DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise self.refuse("a second document begins here", event.start_mark.line + 1, "a file holds one; take the --- away")
        elif isinstance(event, (SequenceEndEvent, MappingEndEvent)):
            self.open.pop()
        elif isinstance(event, AliasEvent):
            line = event.start_mark.line + 1
            if event.anchor not in self.anchors:
                hint = "a text that begins with * needs quotes"
                raise self.refuse(f"`*{event.anchor}` repeats what no `&{event.anchor}` has named before", line, hint)
            self.place(self.anchors[event.anchor], line)
        elif isinstance(event, (ScalarEvent, SequenceStartEvent, MappingStartEvent)):
            self.begin(event)

    def begin(self, event: ScalarEvent | SequenceStartEvent | MappingStartEvent) -> None:
        line = event.start_mark.line + 1
        tag = None if event.ctag is None else str(event.ctag)
        if tag not in _KNOWN_TAGS:
            self.problems.append(Problem(f"the tag {tag} means nothing here", self.file, line, "leave it out"))
        node: Node
        if isinstance(event, ScalarEvent):
            node = Scalar(line, self.paired(event.value, line), event.style is None and tag not in ("!", _CORE + "str"))
        else:
            node = Items(line) if isinstance(event, SequenceStartEvent) else Pairs(line)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        self.place(node, line)
        if not isinstance(node, Scalar):
            self.open.append(node)
            if len(self.open) > _DEEPEST:
                raise self.refuse(f"more than {_DEEPEST} levels deep", line, "a bracket that nobody closes?")

    def paired(self, text: str, line: int) -> str:
        """JSON writes a character beyond U+FFFF as two escapes, which YAML reads as two characters that are none."""
        if not any("\ud800" <= letter <= "\udfff" for letter in text):
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise self.refuse("half a character (a surrogate of UTF-16)", line) from None

    def place(self, node: Node, line: int) -> None:
        if not self.open:
            self.root = node
            return
        parent = self.open[-1]
        if isinstance(parent, Items):
            parent.nodes.append(node)
        elif parent.key is None:
            if not isinstance(node, Scalar):
                raise self.refuse("a key is a list or a mapping", line, "a key is a word or a text in quotes")
            parent.key = Scalar(line, node.text, node.plain)
        else:
            key, parent.key = parent.key, None
            if key.plain and key.text == "<<":
                parent.merge.append(node)
                return
            if key.text in parent.lines:
                first = parent.lines[key.text]
                problem = Problem(f"the key `{key.text}` is there twice, first in line {first}", self.file, key.line, "keep one of them")
                self.problems.append(problem)
                return
            parent.lines[key.text] = key.line
            parent.nodes.append((key, node))
