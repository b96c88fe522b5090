"""Elements that are records to columns: attributes and children are the fields, what is inside of these is JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from sources.records.assembling import Careful, Rows, unreadable
from sources.records.base import DecodeOptions, RecordSchema
from sources.records.connect import string
from sources.records.json_values import quoted
from sources.records.scalars import JSONS, Unfit, pg_type
from sources.records.text_rows import TextColumns, text_reader

_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
DEEPEST = 200
"""Levels of elements inside a record."""

Node = str | Element


class XmlColumns:
    """Reads elements; see `TextColumns` for what `width` is."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions, width: int) -> None:
        self._fields = [(pg_type(f.type), tuple(options.paths.get(f.name, f.name).split(".")), f.name) for f in schema.fields]
        self._known = {path[0] for _, path, _ in self._fields}
        self._extra = options.extra
        self._width = width
        self._columns = TextColumns(schema, width)

    def read(self, records: Sequence[Element | None], raw: Sequence[bytes], refused: Mapping[int, Careful]) -> Rows:
        """A row for each element; None are those which are in `refused`."""
        cells: list[list[str | None]] = [[] for _ in self._fields]
        extra: list[Mapping[str, str]] = []
        odd: dict[int, Careful] = dict(refused)
        for row, record in enumerate(records):
            found: list[str | None] = [None] * len(self._fields)
            lacking: dict[str, str] = {}
            if record is not None:
                try:
                    found, lacking = self._row(record)
                except Unfit as error:
                    odd[row] = unreadable(self._width, row, str(error), raw[row])
            for column, value in zip(cells, found, strict=True):
                column.append(value)
            extra.append(lacking)
        return self._columns.read(cells, odd, extra)

    def _row(self, record: Element) -> tuple[list[str | None], dict[str, str]]:
        members = _members(record)
        texts: list[str | None] = []
        for kind, path, name in self._fields:
            nodes = _along(members, path)
            if kind.array:
                read = text_reader(type(kind)(kind.base, kind.args))
                items = [_leaf(node, name) for node in nodes]
                texts.append("{" + ",".join("NULL" if item is None else quoted(read(item)) for item in items) + "}" if items else None)
            elif kind.base in JSONS:
                document = _token(nodes, 0)
                texts.append(None if document == "null" else document)
            elif len(nodes) > 1:
                raise Unfit(f"{name} is there {len(nodes)} times")
            else:
                texts.append(_leaf(nodes[0], name) if nodes else None)
        lacking = {name: nodes for name, nodes in members.items() if name not in self._known}
        if lacking and self._extra == "quarantine":
            raise Unfit("has fields that the schema lacks: " + ", ".join(sorted(lacking)))
        return texts, {name: _token(nodes, 0) for name, nodes in lacking.items()}


def _members(record: Element) -> dict[str, list[Node]]:
    """Name -> attribute and children of that name, in order."""
    found: dict[str, list[Node]] = {}
    for name, value in record.attrib.items():
        if not name.startswith(_XSI):
            found.setdefault(_local(name), []).append(value)
    for child in record:
        if isinstance(child.tag, str):
            found.setdefault(_local(child.tag), []).append(child)
    return found


def _along(members: Mapping[str, list[Node]], path: tuple[str, ...]) -> list[Node]:
    nodes = members.get(path[0], [])
    for name in path[1:]:
        nodes = [inner for node in nodes if isinstance(node, Element) for inner in _members(node).get(name, [])]
    return nodes


def _leaf(node: Node, name: str) -> str | None:
    if isinstance(node, str):
        return node or None
    if node.attrib.get(_NIL) in ("true", "1"):
        return None
    if len(node):
        raise Unfit(f"{name} holds elements, not a text")
    return node.text or None


def _token(nodes: Sequence[Node], depth: int) -> str:
    """The JSON of what is under one name: an array where it is there more than once."""
    if not nodes:
        return "null"
    tokens = list(_tokens(nodes, depth))
    return tokens[0] if len(tokens) == 1 else "[" + ",".join(tokens) + "]"


def _tokens(nodes: Sequence[Node], depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        raise Unfit("is nested too deeply")
    for node in nodes:
        members = {} if isinstance(node, str) else _members(node)
        text = node if isinstance(node, str) else (node.text or "")
        if not members:
            empty = not text or (isinstance(node, Element) and node.attrib.get(_NIL) in ("true", "1"))
            yield "null" if empty else string(text)
            continue
        parts = [f"{string(name)}:{_token(inner, depth + 1)}" for name, inner in members.items()]
        if text.strip():
            parts.append(f'"#text":{string(text.strip())}')
        yield "{" + ",".join(parts) + "}"


def _local(name: str) -> str:
    return name.rpartition("}")[2]
