"""The SQL of `enrich`: a map of a dataset's own rows that may join lookups by their keys.

Each join is taken out of the SQL: at most one row of the lookup is for a row of the input, so what the lookup has for it stands beside it
as more columns, and what is left is a map like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from dataflows.map_query import INPUT, Node, Query, expanded, input_of, line_of, nodes, read_text, read_tree, references, sound
from journal.expression_tree import resolve_name
from journal.schema import TableSchema
from pipeline.errors import ConfigError, Problem
from pipeline.names import nearest


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    """One lookup in FROM: what it is called there, and for each column of its key what of the row it is equal to."""

    lookup: str
    alias: str
    on: Mapping[str, Node]
    inner: bool
    node: Node


@dataclass(frozen=True, slots=True, eq=False)
class BoundJoin:
    """A join whose lookup's columns are known. `key` gives, as a map, the key that a row refers to; `columns` are named as in `query`."""

    join: Join
    key: Query
    schema: TableSchema
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class BoundEnrichment:
    """What is left without the joins is `query`, over the columns of the input and, each under its own name, those of the lookups."""

    query: Query
    joins: tuple[BoundJoin, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Enrichment:
    """SQL that is sound as far as can be told without columns; `tree` has no join with a lookup any more."""

    file: Path
    text: str
    tree: Node
    alias: str
    joins: tuple[Join, ...]

    def passed_through(self, names: Collection[str]) -> frozenset[str]:
        """Those of the columns that are, by the SQL alone, what the input's column of that name is; there may be more."""
        found: set[str] = set()
        others: set[str] = set()
        inputs = [[self.alias.lower()], *([] if self.joins else [[]])]
        for item in self.tree["select_list"]:
            own = (item.get("relation_name") or self.alias).lower() == self.alias.lower()
            if item["class"] == "STAR" and own and not item.get("replace_list") and not item.get("rename_list"):
                found |= set() if item.get("exclude_list") else set(names)
            elif item["class"] == "COLUMN_REF" and [part.lower() for part in item["column_names"][:-1]] in inputs:
                column = item["column_names"][-1]
                (found if item["alias"] in ("", column) else others).add(item["alias"] or column)
            else:
                others.add(item.get("alias") or "")
        taken = {name.lower() for name in others}
        return frozenset(name for name in names if name in found and name.lower() not in taken)

    def bind(self, types: Mapping[str, str], schemas: Mapping[str, TableSchema]) -> BoundEnrichment:
        """Raises ConfigError for columns that a lookup does not have, or that several have. `types` are those of the input."""
        binding = _Binding(self, types, schemas)
        tree = deepcopy(self.tree)
        tree["select_list"] = [part for item in tree["select_list"] for part in binding.expanded(item)]
        binding.rewrite(tree, self.joins)
        bound = []
        for place, join in enumerate(self.joins):
            chosen = []
            for name in schemas[join.lookup].key:
                item = deepcopy(join.on[resolve_name(name, join.on) or name])
                binding.rewrite(item, self.joins[:place])
                chosen.append({**item, "alias": name})
            only = {**deepcopy(self.tree), "select_list": chosen, "where_clause": None, "modifiers": []}
            columns = {binding.beside(join, name): name for name in schemas[join.lookup].names}
            bound.append(BoundJoin(join, sound(only, self.text, self.file), schemas[join.lookup], columns))
        if binding.problems:
            raise ConfigError.of(list(dict.fromkeys(binding.problems)))
        return BoundEnrichment(sound(tree, self.text, self.file), tuple(bound))


class _Binding:
    """References to columns of lookups, as references to columns beside those of the input."""

    def __init__(self, of: Enrichment, types: Mapping[str, str], schemas: Mapping[str, TableSchema]) -> None:
        self.of = of
        self.types = types
        self.schemas = schemas
        self.problems: list[Problem] = []
        # more of them in front than in front of any column of the input that could be mistaken for one of a lookup
        self._mark = "_" * (1 + max((len(name) - len(name.lstrip("_")) for name in types if "." in name), default=-1))

    def beside(self, join: Join, name: str) -> str:
        """What a column of a lookup is called among those of the input."""
        return f"{self._mark}{join.alias}.{name}"

    def expanded(self, item: Node) -> list[Node]:
        """A star as the columns that it stands for."""
        for join in self.of.joins if item["class"] == "STAR" else ():
            if item["relation_name"].lower() == join.alias.lower():
                return expanded(item, self.schemas[join.lookup].names, join.alias)
        return expanded(item, tuple(self.types), self.of.alias)

    def rewrite(self, tree: Node, joins: Sequence[Join]) -> None:
        for item in tree.get("select_list", ()):
            if item["class"] == "COLUMN_REF" and not item["alias"]:
                item["alias"] = item["column_names"][-1]
        for node, inner in references(list(tree.values()) if "select_list" in tree else tree):
            names = node["column_names"]
            join = next((one for one in joins if len(names) > 1 and names[0].lower() == one.alias.lower()), None)
            if join is not None:
                schema = self.schemas[join.lookup]
                column = resolve_name(names[1], schema.names)
                if column is None:
                    said = f"the lookup `{join.lookup}` has no column `{names[1]}`"
                    self.problems.append(self._problem(said, node, nearest(names[1], schema.names)))
                else:
                    node["column_names"] = [self.of.alias, self.beside(join, column), *names[2:]]
            elif not inner and names[0].lower() != self.of.alias.lower():
                self._unqualified(node, joins)

    def _unqualified(self, node: Node, joins: Sequence[Join]) -> None:
        name, *rest = node["column_names"]
        having = [(join, column) for join in joins if (column := resolve_name(name, self.schemas[join.lookup].names)) is not None]
        own = resolve_name(name, self.types) is not None
        having = [(join, column) for join, column in having if not (own and _is_own(join, column, self.of.alias))]
        if len(having) + own > 1:
            where = [*([self.of.alias] if own else []), *(join.alias for join, _ in having)]
            hint = f"write {' or '.join(f'{one}.{name}' for one in where)}"
            self.problems.append(self._problem(f"several have a column `{name}`: {', '.join(where)}", node, hint))
        elif having and not own:
            join, column = having[0]
            node["column_names"] = [self.of.alias, self.beside(join, column), *rest]

    def _problem(self, message: str, node: Node, hint: str | None) -> Problem:
        return Problem(message, self.of.file, line_of(self.of.text, node), hint)


def _is_own(join: Join, column: str, alias: str) -> bool:
    """Whether a column of the key is equal to the input's one of the same name: then it does not matter whose is meant."""
    written = join.on.get(column, {}).get("column_names", [])
    return bool(written) and written[-1].lower() == column.lower() and (len(written) == 1 or written[0].lower() == alias.lower())


def read_enrichment(file: Path, lookups: Mapping[str, Sequence[str]]) -> Enrichment:
    """Reads the SQL of `enrich`; `lookups`: name -> key. Raises ConfigError with every problem, each with its line."""
    return parse_enrichment(read_text(file), file, lookups)


def parse_enrichment(text: str, file: Path, lookups: Mapping[str, Sequence[str]]) -> Enrichment:
    """The same for text that is not in a file of its own."""
    tree = read_tree(text, file)
    taking = _Taking(text, file, lookups)
    tree["from_table"] = taking.without_lookups(tree["from_table"])
    alias = input_of(tree["from_table"]) or INPUT
    joins = tuple(taking.joins[::-1])
    problems = [*taking.problems, *taking.misplaced(tree), *taking.doubled(joins, alias)]
    problems += [one for join in joins for one in taking.on_key(join)]
    problems += [
        Problem(f"* would take columns of every table: write {alias}.*, or name them", file, line_of(text, item))
        for item in tree["select_list"]
        if joins and item["class"] == "STAR" and not item["relation_name"]
    ]
    if problems:
        raise ConfigError.of(list(dict.fromkeys(problems)))
    sound(deepcopy(tree), text, file)
    return Enrichment(file, text, tree, alias, joins)


class _Taking:
    """Takes the joins with lookups out of FROM, the last one first."""

    def __init__(self, text: str, file: Path, lookups: Mapping[str, Sequence[str]]) -> None:
        self.text = text
        self.file = file
        self.lookups = lookups
        self.joins: list[Join] = []
        self.problems: list[Problem] = []

    def problem(self, message: str, node: Node, hint: str | None = None) -> Problem:
        return Problem(message, self.file, line_of(self.text, node), hint)

    def without_lookups(self, table: Node) -> Node:
        if table["type"] != "JOIN":
            return table
        right = table["right"]
        name = self._lookup(right)
        if name is None:
            return {**table, "left": self.without_lookups(table["left"])}
        if table["join_type"] not in ("LEFT", "INNER") or table["ref_type"] != "REGULAR":
            self.problems.append(self.problem(f"the lookup `{name}` is joined with LEFT JOIN … ON its key", right))
        elif right["sample"] is not None or right["column_name_alias"]:
            self.problems.append(self.problem(f"the lookup `{name}` is joined as it is", right, "name its columns in SELECT: … AS name"))
        else:
            self.joins.append(
                Join(name, right["alias"] or name, self._on(table, right["alias"] or name), table["join_type"] == "INNER", right)
            )
        return self.without_lookups(table["left"])

    def _lookup(self, table: Node) -> str | None:
        if table["type"] != "BASE_TABLE" or table["schema_name"] not in ("", "lookups"):
            return None
        return resolve_name(table["table_name"], self.lookups)

    def _on(self, table: Node, alias: str) -> dict[str, Node]:
        """Column of the lookup -> what it is equal to; a part of the condition that says anything else is a problem."""
        found: dict[str, Node] = {}
        for name in table["using_columns"]:
            plain = {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "query_location": table["query_location"]}
            found[name] = {**plain, "query_location_length": 0, "column_names": [name]}
        condition = table["condition"]
        parts = [] if condition is None else condition["children"] if condition["type"] == "CONJUNCTION_AND" else [condition]
        for part in parts:
            pair = None
            if part["type"] == "COMPARE_EQUAL":
                pair = self._pair(part["left"], part["right"], alias) or self._pair(part["right"], part["left"], alias)
            if pair is None or pair[0] in found:
                hint = f"write {alias}.COLUMN = … for each column of its key, with AND"
                self.problems.append(self.problem(f"a lookup is joined on its key alone, by `{alias}.COLUMN = …`", part, hint))
            else:
                found[pair[0]] = pair[1]
        return found

    def _pair(self, column: Node, value: Node, alias: str) -> tuple[str, Node] | None:
        names = column.get("column_names", [])
        if column["class"] != "COLUMN_REF" or len(names) != 2 or names[0].lower() != alias.lower():
            return None
        own = any(node["column_names"][0].lower() == alias.lower() and len(node["column_names"]) > 1 for node, _ in references(value))
        return None if own else (str(names[1]), value)

    def on_key(self, join: Join) -> Iterator[Problem]:
        key = self.lookups[join.lookup]
        strange = [name for name in join.on if resolve_name(name, key) is None]
        missing = [name for name in key if resolve_name(name, join.on) is None]
        if strange or (missing and not any(one.line == line_of(self.text, join.node) for one in self.problems)):
            named = join.lookup if join.alias == join.lookup else f"{join.lookup} AS {join.alias}"
            hint = f"LEFT JOIN {named} ON " + " AND ".join(f"{join.alias}.{name} = …" for name in key)
            yield self.problem(f"the lookup `{join.lookup}` is joined on something else than its key, {', '.join(key)}", join.node, hint)

    def doubled(self, joins: Sequence[Join], alias: str) -> Iterator[Problem]:
        names = [alias.lower(), *(join.alias.lower() for join in joins)]
        for place, join in enumerate(joins):
            if join.alias.lower() in names[: place + 1]:
                yield self.problem(f"two tables are called `{join.alias}`", join.node, "give one of them another name: … AS name")

    def misplaced(self, tree: Node) -> Iterator[Problem]:
        named = {one["key"].lower() for node in nodes(tree, lambda node: "cte_map" in node) for one in node["cte_map"]["map"]}
        for table in nodes(tree, lambda node: node.get("type") == "BASE_TABLE"):
            name = table["table_name"]
            if name.lower() in named or name.lower() == INPUT:
                continue
            if self._lookup(table) is not None:
                yield self.problem(f"the lookup `{name}` is joined to input: FROM input LEFT JOIN {name} ON …", table)
            else:
                yield self.problem(f"there is no lookup `{name}`", table, _known(name, self.lookups))


def _known(name: str, lookups: Collection[str]) -> str:
    return nearest(name, lookups) or "name it under `lookups`"
