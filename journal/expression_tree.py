"""What a DuckDB expression over one row consists of, and whether it is one: read by DuckDB's own parser.

Refused are subqueries, aggregates, windows, stars, parameters, functions that make rows or give something else on every call,
and whatever ends the expression early. Columns are resolved as Postgres people expect: the exact name first, then any case.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from journal.duckdb_session import quoted, session
from pipeline.errors import ConfigError

_RELATION = "sluice_row"
_HEAD, _TAIL = "SELECT (", f"\n) FROM {_RELATION}"
_REFUSED = {
    "SUBQUERY": "a subquery is not an expression over one row",
    "WINDOW": "a window function is not an expression over one row",
    "STAR": "a star is not an expression over one row; name the columns",
    "PARAMETER": "a parameter has no value here",
    "POSITIONAL_REFERENCE": "a positional reference has no meaning here; name the column",
    "DEFAULT": "DEFAULT has no meaning here",
}
_CLOCK_WORDS = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
_ROW_MAKERS = frozenset({"unnest", "unlist", "generate_subscripts"})

Node = dict[str, Any]


class ExpressionError(ConfigError):
    """An expression cannot be used. `position` is the character in it at which the trouble begins, from 0, where that is known."""

    def __init__(self, message: str, *, hint: str | None = None, position: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.position = position


@dataclass(frozen=True, slots=True)
class Reference:
    """A column's occurrence in the text: bytes start to stop, the column, and the fields of it that are asked for."""

    start: int
    stop: int
    column: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """An expression that is sound as far as can be told without types."""

    sql: str
    root: Node
    references: tuple[Reference, ...]
    clock: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads, in order of appearance."""
        return tuple(dict.fromkeys(reference.column for reference in self.references))

    def with_columns(self, written: dict[str, str]) -> str:
        """The text with each column written as told; fields of it follow."""
        text = self.sql.encode()
        for found in sorted(self.references, key=lambda reference: -reference.start):
            fields = "".join("." + quoted(name) for name in found.fields)
            text = text[: found.start] + (written[found.column] + fields).encode() + text[found.stop :]
        return text.decode()


def parse(sql: str, columns: Collection[str], *, table: str | None = None) -> Tree:
    """Reads an expression over the given columns, which may be written with `table` before them. Raises ExpressionError."""
    if not sql.strip():
        raise ExpressionError("the expression is empty")
    root = _single_expression(sql)
    references: list[Reference] = []
    clock = False
    for node, bound in _walk(root, frozenset()):
        place = _position(sql, node)
        reason = _REFUSED.get(node["class"])
        if reason:
            raise ExpressionError(reason, position=place)
        if node["class"] == "FUNCTION":
            clock |= check_function(node["function_name"].lower(), place)
        elif node["class"] == "COLUMN_REF" and node["column_names"][0] not in bound:
            found = _resolve(node, columns, table, place)
            if found is None:
                clock = True
            else:
                references.append(found)
    return Tree(sql, root, tuple(references), clock)


def _single_expression(sql: str) -> Node:
    answer = json.loads(session().query("SELECT json_serialize_sql(?)", [_HEAD + sql + _TAIL])[0][0])
    if answer["error"]:
        position = int(answer["position"]) - len(_HEAD) if "position" in answer else None
        inside = position is not None and position < len(sql.encode())
        place = _characters(sql, position) if position is not None and inside else None
        message = str(answer["error_message"]).strip() if inside else "the expression ends too early"
        where = f" (at character {place + 1})" if place is not None else ""
        raise ExpressionError(f"{message}{where}", position=place)
    statements = answer["statements"]
    node = statements[0]["node"]
    if (
        len(statements) != 1
        or node["type"] != "SELECT_NODE"
        or node["from_table"].get("table_name") != _RELATION
        or node["from_table"]["alias"]
        or len(node["select_list"]) != 1
        or node["select_list"][0]["alias"]
        or node["modifiers"]
        or node["cte_map"]["map"]
        or node["group_expressions"]
        or any(node[clause] is not None for clause in ("where_clause", "having", "qualify", "sample"))
    ):
        raise ExpressionError("this is more than one expression", hint="write a single condition over the columns of a row")
    root: Node = node["select_list"][0]
    return root


def _walk(value: object, bound: frozenset[str]) -> Iterator[tuple[Node, frozenset[str]]]:
    """Every expression in the tree, with the names that a lambda around it gives a meaning of their own."""
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, bound)
    elif isinstance(value, dict):
        if value.get("class") == "LAMBDA":
            names = {name for node, _ in _walk(value["lhs"], frozenset()) for name in node.get("column_names", ())}
            if any(node.get("column_names", [""])[0] in names for node, _ in _walk(value["expr"], frozenset())):
                yield from _walk(value["expr"], bound | names)
            else:  # the arrow of JSON, which the parser cannot tell from a lambda that does not use what it is given
                yield from _walk(value["lhs"], bound)
                yield from _walk(value["expr"], bound)
            return
        if "class" in value:
            yield value, bound
            if value["class"] in _REFUSED:
                return
        for item in value.values():
            yield from _walk(item, bound)


def check_function(name: str, place: int | None) -> bool:
    """Whether the function reads the clock. Raises ExpressionError for one that has no business in a row expression."""
    if name in _ROW_MAKERS:
        raise ExpressionError(f"{name}() makes rows out of one; it is not an expression over one row", position=place)
    kinds = _functions().get(name)
    if kinds is None:
        return False  # unknown ones are DuckDB's to refuse, with a better hint than ours
    if kinds == {"aggregate"}:
        raise ExpressionError(f"{name}() is an aggregate; it is not an expression over one row", position=place)
    if "VOLATILE" in kinds:
        raise ExpressionError(f"{name}() gives something else on every call", position=place)
    return "CONSISTENT_WITHIN_QUERY" in kinds


@cache
def _functions() -> dict[str, set[str]]:
    """Function name -> {"aggregate"} or the stabilities of its scalar forms."""
    found: dict[str, set[str]] = {}
    rows = session().query(
        "SELECT function_name, function_type, stability FROM duckdb_functions() WHERE function_type IN ('scalar', 'aggregate')"
    )
    for name, kind, stability in rows:
        if kind == "scalar":
            found.setdefault(name.lower(), set()).add(stability)
    for name, kind, _ in rows:
        if kind == "aggregate":
            found.setdefault(name.lower(), {"aggregate"})
    return found


def _resolve(node: Node, columns: Collection[str], table: str | None, place: int | None) -> Reference | None:
    """The column that is meant; None for a word of the clock, such as current_date."""
    names: Sequence[str] = node["column_names"]
    if len(names) > 1 and table is not None and names[0].lower() == table.lower() and names[0] not in columns:
        names = names[1:]
    found = resolve_name(names[0], columns)
    if found is None:
        if len(names) == 1 and names[0].lower() in _CLOCK_WORDS:
            return None
        near = nearest(names[0], columns)
        raise ExpressionError(f'there is no column "{names[0]}"', hint=f'did you mean "{near}"?' if near else None, position=place)
    start = int(node["query_location"]) - len(_HEAD)
    return Reference(start, start + int(node["query_location_length"]), found, tuple(names[1:]))


def resolve_name(name: str, columns: Collection[str]) -> str | None:
    """The column of that name, exactly or, if only one fits, in any case."""
    if name in columns:
        return name
    folded = [column for column in columns if column.lower() == name.lower()]
    return folded[0] if len(folded) == 1 else None


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that is most like one that isn't known, if any is like it at all."""
    folded = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def _position(sql: str, node: Node) -> int | None:
    location = int(node.get("query_location", 2**63)) - len(_HEAD)
    return _characters(sql, location) if 0 <= location < len(sql.encode()) else None


def _characters(sql: str, offset: int) -> int:
    """Bytes into the text -> characters into it."""
    return len(sql.encode()[:offset].decode(errors="ignore"))
