"""The SQL of a map: read by DuckDB's own parser, and refused where it could give anything but one row for each row of `input`.

A map is `SELECT … FROM input`. What it gives for a row may depend on that row alone: not on its neighbours in a batch, nor on the clock,
nor on chance. Then it does not matter how changes are cut into batches, or how often one is read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journal.duckdb_session import session
from journal.expression_tree import ExpressionError, check_function, resolve_name
from pipeline.errors import ConfigError, Problem
from pipeline.names import nearest

INPUT = "input"
ROW = "_sluice_row"
"""The hidden column that says which row of the input a row of the answer is for."""

Node = dict[str, Any]
_WORDS = {
    "DISTINCT_MODIFIER": "DISTINCT",
    "LIMIT_MODIFIER": "LIMIT",
    "LIMIT_PERCENT_MODIFIER": "LIMIT",
}
_STATEMENTS = frozenset({"query", "query_table", "json_execute_serialized_sql"})
_ONE_ROW = "a map gives one row for each row of `input`"


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """One column that a map gives.

    reads   columns of the input that it depends on
    source  the column of the input that it is as it stands, if it is one
    line    where it is written
    """

    name: str
    node: Node
    reads: frozenset[str]
    source: str | None
    line: int


@dataclass(frozen=True, slots=True, eq=False)
class BoundQuery:
    """A map over an input whose columns are known.

    everywhere  columns that every row of the answer depends on, whatever it gives: those of WHERE and of joins
    """

    query: Query
    projections: tuple[Projection, ...]
    everywhere: frozenset[str]

    def sql(self, names: Collection[str]) -> str:
        """The map as one line of SQL that gives the hidden row number and the given columns, under their names."""
        tree = deepcopy(self.query.tree)
        row = {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": ROW, "query_location": 0, "query_location_length": 0}
        chosen = [{**deepcopy(one.node), "alias": one.name} for one in self.projections if one.name in names]
        tree["select_list"] = [{**row, "column_names": [self.query.alias, ROW]}, *chosen]
        return _written(tree)


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """SQL that is sound as far as can be told without its input's columns. `alias` is what it calls its input."""

    file: Path
    text: str
    tree: Node
    alias: str
    joined: bool

    def line(self, node: Node) -> int:
        """The line of a part of the text, from 1."""
        return line_of(self.text, node)

    def problem(self, message: str, node: Node, hint: str | None = None) -> Problem:
        return Problem(message, self.file, self.line(node), hint)

    @property
    def plain(self) -> bool:
        """Whether every row of the input has its row in the answer, whatever it holds."""
        return not self.joined and self.tree["where_clause"] is None

    @property
    def names(self) -> tuple[str, ...] | None:
        """The columns that it gives; None where that depends on the input's (`*`)."""
        items = self.tree["select_list"]
        return None if any(item["class"] == "STAR" for item in items) else tuple(name_of(item) or "" for item in items)

    def bind(self, columns: Collection[str]) -> BoundQuery:
        """The map over an input with these columns. Raises ConfigError with every column that is not there."""
        problems: list[Problem] = []
        items = [part for item in self.tree["select_list"] for part in expanded(item, columns, self.alias)]
        given = {name.lower(): item for item in items if (name := name_of(item))}
        everywhere: set[str] = set()
        for part in ("where_clause", "from_table", "cte_map", "modifiers"):
            everywhere |= self._reads(self.tree[part], columns, given if part == "modifiers" else {}, problems, frozenset())
        projections = []
        for item in items:
            name = name_of(item) or ""
            reads = self._reads(item, columns, given, problems, frozenset({name.lower()}))
            projections.append(
                Projection(name, self._plain(item, given, columns), frozenset(reads), self._source(item, columns), self.line(item))
            )
        for place, one in enumerate(projections):
            if one.name.lower() in {other.name.lower() for other in projections[:place]}:
                problems.append(self.problem(f"the map gives the column `{one.name}` twice", items[place]))
        if problems:
            raise ConfigError.of(list(dict.fromkeys(problems)))
        return BoundQuery(self, tuple(projections), frozenset(everywhere))

    def _reads(
        self, part: object, columns: Collection[str], given: dict[str, Node], problems: list[Problem], seen: frozenset[str]
    ) -> set[str]:
        """The input's columns that a part of the query names; through names that other columns of the answer have, too."""
        found: set[str] = set()
        for node, inner in references(part):
            names = node["column_names"]
            own = len(names) > 1 and names[0].lower() == self.alias.lower()
            column = resolve_name(names[1] if own else names[0], columns)
            if column is not None:
                found.add(column)
            elif not own and names[0].lower() in given and names[0].lower() not in seen:
                found |= self._reads(given[names[0].lower()], columns, given, problems, seen | {names[0].lower()})
            elif own or (not inner and not self.joined and not _is_clock(names)):
                asked = names[1] if own else names[0]
                problems.append(self.problem(f"the input has no column `{asked}`", node, nearest(asked, columns)))
        return found

    def _plain(self, item: Node, given: dict[str, Node], columns: Collection[str]) -> Node:
        """The item with what it says under the names of its neighbours written out, so that it stands on its own."""

        def replaced(part: object, seen: frozenset[str]) -> object:
            if isinstance(part, list):
                return [replaced(one, seen) for one in part]
            if not isinstance(part, dict):
                return part
            if part.get("class") == "COLUMN_REF" and len(part["column_names"]) == 1:
                name = part["column_names"][0].lower()
                if name in given and name not in seen and resolve_name(name, columns) is None:
                    return {**deepcopy(self._plain(given[name], given, columns)), "alias": part["alias"]}
            if part.get("class") == "SUBQUERY":
                return part
            if part.get("class") == "LAMBDA" and part["lhs"].get("class") == "COLUMN_REF":
                named = part["lhs"]["column_names"]
                if any(node["column_names"][0] in named for node, _ in references(part["expr"])):
                    return part  # a parameter, which has nothing to do with the column of that name
            return {key: replaced(one, seen) for key, one in part.items()}

        found: Node = replaced(item, frozenset({(name_of(item) or "").lower()}))  # type: ignore[assignment]
        return found

    def _source(self, item: Node, columns: Collection[str]) -> str | None:
        names = item.get("column_names", [])
        if item["class"] != "COLUMN_REF" or self.joined or len(names) > 2 or (len(names) == 2 and names[0].lower() != self.alias.lower()):
            return None
        return resolve_name(names[-1], columns)


def expanded(item: Node, columns: Collection[str], alias: str) -> list[Node]:
    """A star as the columns of the table `alias` that it stands for; anything else as it is."""
    if item["class"] != "STAR":
        return [item]
    left_out = {str(name).lower() for name in item["exclude_list"]}
    replaced = {str(one["key"]).lower(): one["value"] for one in item["replace_list"]}
    plain = {"class": "COLUMN_REF", "type": "COLUMN_REF", "query_location": item["query_location"], "query_location_length": 0}
    return [
        {**replaced[name.lower()], "alias": name} if name.lower() in replaced else
        {**plain, "alias": name, "column_names": [alias, name]}
        for name in columns
        if name.lower() not in left_out
    ]  # fmt: skip


def read_query(file: Path) -> Query:
    """Reads a map. Raises ConfigError with every problem, each with its line."""
    return parse_query(read_text(file), file)


def read_text(file: Path) -> str:
    """The text of a map. Raises ConfigError."""
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the map {file} cannot be read: {error}") from error


def parse_query(text: str, file: Path) -> Query:
    """The same for text that is not in a file of its own; `file` is where problems are."""
    return sound(read_tree(text, file), text, file)


def read_tree(text: str, file: Path) -> Node:
    """The one SELECT of a text, as DuckDB reads it. Raises ConfigError where it is anything else."""
    answer = json.loads(session().query("SELECT json_serialize_sql(?)", [text])[0][0])
    if answer["error"]:
        line = _line(text, int(answer.get("position", 0)))
        hint = "write SELECT … FROM input"
        raise ConfigError.of([Problem(f"this is no map: {answer['error_message'].strip()}", file, line, hint)])
    statements = answer["statements"]
    if len(statements) != 1:
        raise ConfigError.of([Problem(f"a map is one SELECT, and this is {len(statements)} statements", file, 1)])
    tree: Node = statements[0]["node"]
    if tree["type"] != "SELECT_NODE":
        raise ConfigError.of([Problem(f"{_ONE_ROW}; UNION and its like do not", file, 1, "write one SELECT … FROM input")])
    return tree


def sound(tree: Node, text: str, file: Path) -> Query:
    """A SELECT as a map. Raises ConfigError with every reason why it is none."""
    alias, joined = _input(tree["from_table"])
    query = Query(file, text, tree, alias or INPUT, joined)
    problems = [*_shape(query, alias is not None), *_contents(query)]
    if problems:
        raise ConfigError.of(problems)
    return query


def input_of(table: Node) -> str | None:
    """What FROM calls the input; None where it is not read there."""
    return _input(table)[0]


def _input(table: Node, outermost: bool = True) -> tuple[str | None, bool]:
    """What the input is called in FROM (None: it is not read there), and whether others stand beside it."""
    if table["type"] == "BASE_TABLE" and table["table_name"].lower() == INPUT and not table["schema_name"]:
        return table["alias"] or INPUT, not outermost
    if table["type"] == "JOIN" and table["join_type"] in ("INNER", "LEFT") and table["ref_type"] != "POSITIONAL":
        return _input(table["left"], outermost=False)[0], True
    return None, False


def _shape(query: Query, reads_input: bool) -> Iterator[Problem]:
    tree = query.tree
    start = tree["select_list"][0]
    if not reads_input:
        hint = "write `FROM input`; other tables are joined behind it, with JOIN or LEFT JOIN"
        yield query.problem(f"{_ONE_ROW}, so it reads FROM input", start, hint)
    for modifier in tree["modifiers"]:
        if modifier["type"] in _WORDS:
            yield query.problem(f"{_ONE_ROW}; {_WORDS[modifier['type']]} leaves some out", modifier.get("limit") or start)
    if tree["group_expressions"] or tree["group_sets"] or tree["aggregate_handling"] != "STANDARD_HANDLING":
        yield query.problem(f"{_ONE_ROW}; GROUP BY makes one of several", (tree["group_expressions"] or [start])[0])
    for table in nodes(tree["from_table"], lambda node: node.get("type") == "BASE_TABLE"):
        if table["sample"] is not None:
            yield query.problem(f"{_ONE_ROW}; a sample leaves some out", table)
        if table["column_name_alias"] and table["table_name"].lower() == INPUT:
            yield query.problem("the columns of `input` keep their names", table, "name them in SELECT: … AS name")
    for clause in ("having", "qualify", "sample"):
        if tree[clause] is not None:
            yield query.problem(f"{_ONE_ROW}; {clause.upper()} looks at several", start)
    if any(one["key"].lower() == INPUT for one in tree["cte_map"]["map"]):
        yield query.problem("`input` is what the map is given; call the other one something else", start)
    named = {one["key"].lower() for one in tree["cte_map"]["map"]}
    tables = list(nodes(tree, lambda node: node.get("type") == "BASE_TABLE"))
    named |= {one["key"].lower() for node in nodes(tree, lambda node: "cte_map" in node) for one in node["cte_map"]["map"]}
    for table in tables:
        if table["table_name"].lower() not in {INPUT, *named}:
            yield query.problem(f"there is no table `{table['table_name']}` in a map, only `input`", table)
    again = [table for table in tables if table["table_name"].lower() == INPUT][1:]
    for table in again:
        yield query.problem("`input` is read twice: what becomes of a row may not depend on others of its batch", table)


def _contents(query: Query) -> Iterator[Problem]:
    """What stands in expressions: outside subqueries nothing that makes one row of several, or several of one; nowhere the clock."""
    for item in query.tree["select_list"]:
        if item["class"] == "STAR":
            if item["columns"] or item["expr"] is not None or item["rename_list"] or item["qualified_exclude_list"]:
                yield query.problem("this form of * is not for maps: name the columns", item)
            elif query.joined and item["relation_name"].lower() != query.alias.lower():
                yield query.problem(f"* would take columns of every table: write {query.alias}.*, or name them", item)
            continue
        name = name_of(item)
        if name is None:
            yield query.problem("a column without a name", item, "give it one: … AS name")
        elif name.startswith("_sluice_"):
            yield query.problem(f"`{name}`: names that begin with _sluice_ are Sluice's own", item)
    for node, inside in _expressions(query.tree, False):
        if node["class"] == "WINDOW" and not inside:
            yield query.problem("a window looks at other rows of the batch: what becomes of a row may depend on that row alone", node)
        elif node["class"] == "PARAMETER":
            yield query.problem("a parameter has no value here", node)
        elif node["class"] == "FUNCTION" and (said := _refused(node["function_name"].lower(), inside)) is not None:
            yield query.problem(said, node)
        elif node["class"] == "COLUMN_REF" and _is_clock(node["column_names"]):
            yield query.problem("the clock gives something else whenever it is asked; a map has to give the same for a row each time", node)


def _refused(function: str, inside: bool) -> str | None:
    """Why a function is not for maps; `inside` a subquery, which is computed for its row alone, there may be aggregates."""
    if function in _STATEMENTS:
        return f"{function}() runs SQL that nobody has checked: write the SQL itself"
    if function == "error":
        return None  # a map's own word for a row that it does not want
    try:
        if check_function(function, None):
            return f"{function}() reads the clock; a map has to give the same for a row each time"
    except ExpressionError as error:
        several = "aggregate" in error.message or "makes rows" in error.message
        if inside and several:
            return None
        return (
            f"{_ONE_ROW}: {error.message.split(';')[0]}" if several else f"{error.message}; a map has to give the same for a row each time"
        )
    return None


def _is_clock(names: list[str]) -> bool:
    return len(names) == 1 and names[0].lower() in ("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp")


def references(part: object, bound: frozenset[str] = frozenset(), inner: bool = False) -> Iterator[tuple[Node, bool]]:
    """Every reference to a column, and whether it stands in a subquery, where it may be one to something else."""
    if isinstance(part, list):
        for one in part:
            yield from references(one, bound, inner)
    elif isinstance(part, dict):
        if part.get("class") == "LAMBDA":  # or the arrow of JSON, which reads alike: then its left side is a column
            yield from references(part["lhs"], bound, inner=True)
            names = {node["column_names"][0] for node, _ in references(part["lhs"])}
            yield from references(part["expr"], bound | names, inner)
            return
        if part.get("class") == "COLUMN_REF" and part["column_names"][0] not in bound:
            yield part, inner
        deeper = inner or part.get("class") == "SUBQUERY" or part.get("type") in ("SELECT_NODE", "SET_OPERATION_NODE", "TABLE_FUNCTION")
        for one in part.values():
            yield from references(one, bound, deeper)


def _expressions(part: object, inside: bool) -> Iterator[tuple[Node, bool]]:
    if isinstance(part, list):
        for one in part:
            yield from _expressions(one, inside)
    elif isinstance(part, dict):
        if "class" in part:
            yield part, inside
        deeper = inside or part.get("class") == "SUBQUERY" or part.get("type") in ("SUBQUERY", "TABLE_FUNCTION")
        for key, one in part.items():
            yield from _expressions(one, deeper or key == "cte_map")


def nodes(part: object, wanted: Any) -> Iterator[Node]:
    """Every part of a query that is wanted."""
    if isinstance(part, list):
        for one in part:
            yield from nodes(one, wanted)
    elif isinstance(part, dict):
        if wanted(part):
            yield part
        for one in part.values():
            yield from nodes(one, wanted)


def name_of(item: Node) -> str | None:
    """The name of a column of the answer; None where it has none of its own."""
    if item["alias"]:
        return str(item["alias"])
    return str(item["column_names"][-1]) if item["class"] == "COLUMN_REF" else None


def line_of(text: str, node: Node) -> int:
    """The line of a part of the text, from 1."""
    return _line(text, node.get("query_location", 0))


def _line(text: str, position: int) -> int:
    encoded = text.encode()
    return encoded.count(b"\n", 0, position) + 1 if position <= len(encoded) else 1


def _written(tree: Node) -> str:
    statement = {"error": False, "statements": [{"node": tree, "named_param_map": []}]}
    return str(session().query("SELECT json_deserialize_sql(?::JSON)", [json.dumps(statement)])[0][0])
