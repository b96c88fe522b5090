"""All rules of one contract, in the order of the file: those that its properties state, and the entries of `quality`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from journal.expression_tree import resolve_name
from pipeline.errors import SluiceError
from pipeline.names import nearest
from quality.check_reading import read_check, read_settings
from quality.checks import no_duplicates
from quality.contract import Property
from quality.kernels.errors import BadExpectation
from quality.nested_shape import Trail
from quality.property_rules import Stated, stated_rules
from quality.rules import OPERATIONS, Action, Found, Place, Rule, RuleError, Scope, Types

_FOR_PEOPLE = frozenset(
    {"id", "name", "description", "dimension", "severity", "businessImpact", "method", "scheduler", "schedule", "tags",
     "authoritativeDefinitions", "customProperties"}
)  # fmt: skip


class Report(Protocol):
    """Takes a problem with the path of what is at fault."""

    def __call__(self, path: Trail, message: str, hint: str | None = None) -> None: ...


class RulesReading:
    """Reads the rules of a schema object; every one is compiled for the contract's own types, so that what cannot be judged is known."""

    def __init__(self, root: Mapping[str, Any], properties: Sequence[Property], line: Callable[[Trail], int], report: Report) -> None:
        self._root = root
        self._properties = properties
        self._line = line
        self._report = report
        self._types: Types = {prop.column: held for prop in properties if (held := prop.held()) is not None}
        self._by_name = {prop.name: prop.column for prop in properties} | {prop.column: prop.column for prop in properties}
        self._names = {prop.column: prop.name for prop in properties}
        self._tables = tuple(dict.fromkeys((root["name"], root.get("physicalName") or root["name"])))
        self._rules: list[Rule] = []
        self._given: dict[str, Trail] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def rules(self) -> list[Rule]:
        """Raises nothing: problems go to the report."""
        entries = list(self._entries())
        for path, check, _ in entries:
            if "id" in check and self._given.setdefault(check["id"], path) is not path:
                self._report(
                    (*path, "id"), f"two rules have the id {check['id']!r}", f"the first is in line {self._line(self._given[check['id']])}"
                )
        self._stated()
        for path, check, column in entries:
            self._entry(path, check, column)
        return self._rules

    def _entries(self) -> list[tuple[Trail, Mapping[str, Any], str | None]]:
        found: list[tuple[Trail, Mapping[str, Any], str | None]] = []
        for place, node in self._nodes():
            column = self._by_name.get(node["name"])
            path: Trail = ("schema", 0, "properties", place, "quality")
            found += [((*path, i), check, column) for i, check in enumerate(node.get("quality") or [])]
        return found + [(("schema", 0, "quality", i), check, None) for i, check in enumerate(self._root.get("quality") or [])]

    def _nodes(self) -> list[tuple[int, Mapping[str, Any]]]:
        return [(place, node) for place, node in enumerate(self._root.get("properties") or []) if node is not None]

    def _stated(self) -> None:
        nodes = {node["name"]: (place, node) for place, node in self._nodes()}
        keyed = [prop for prop in sorted(self._properties, key=lambda p: p.key_position or 0) if prop.key_position is not None]
        for prop in self._properties:
            place, node = nodes[prop.name]
            path: Trail = ("schema", 0, "properties", place)
            for found in stated_rules(node, prop, alone_in_key=[prop] == keyed):
                if isinstance(found, Stated):
                    self._add(
                        Found(found.metric, prop.column, found.scope, (prop.column,), found.says, found.compile),
                        (*path, *found.part),
                        {},
                        generated=_asked(node, found.part, found.metric),
                    )
                else:
                    trail, message, hint = found
                    self._report((*path, *trail), message, hint)
        if len(keyed) > 1:
            columns = tuple(prop.column for prop in keyed)
            path = ("schema", 0, "properties", nodes[keyed[0].name][0], "primaryKey")
            self._add(
                Found("primaryKey", None, Scope.BATCH, columns, "no two rows have the same key", lambda _types: no_duplicates(columns)),
                path,
                {},
                generated=list(columns),
            )

    def _entry(self, path: Trail, check: Mapping[str, Any], column: str | None) -> None:
        try:
            settings = read_settings(check.get("customProperties"))
            found = read_check(check, Place(self._tables, column, self._resolve, self._by_name), settings.mostly)
        except RuleError as error:
            self._report((*path, error.part) if error.part else path, error.message, error.hint)
            return
        if found is not None:
            self._add(found, path, check)

    def _add(self, found: Found, path: Trail, check: Mapping[str, Any], *, generated: object = None) -> None:
        """`generated` is what a rule asks that a property states."""
        try:
            judge = found.compile(self._types)
            settings = read_settings(check.get("customProperties"))
            scope = found.scope
            action = self._action(scope, settings.action)
            if scope is Scope.SET and (settings.on is not None or settings.mostly is not None):
                setting = "on" if settings.on is not None else "mostly"
                raise RuleError(f"{setting} has no meaning for a rule over the whole set", part="customProperties")
        except BadExpectation as error:
            self._report((*path, "implementation", "kwargs", error.argument or ""), error.message, error.hint)
            return
        except SluiceError as error:
            part = error.part if isinstance(error, RuleError) else "query"
            self._report((*path, part) if part else path, error.message, error.hint)
            return
        columns = tuple(dict.fromkeys((*found.columns, *judge.columns)))
        about = found.about or (columns[0] if len(columns) == 1 else None)
        self._rules.append(
            Rule(
                id=check.get("id") or self._made(found, columns),
                kind=found.kind,
                columns=columns,
                column=about,
                scope=scope,
                compile=found.compile,
                line=self._line(path),
                says=check.get("description") or check.get("name") or found.says,
                action=action,
                on=settings.on or frozenset(OPERATIONS),
                severity=check.get("severity"),
                mostly=1.0 if settings.mostly is None else settings.mostly,
                generated=generated is not None,
                asks={key: value for key, value in check.items() if key not in _FOR_PEOPLE} if generated is None else generated,
                expectation=found.expectation,
                lookup=found.lookup,
            )
        )

    def _action(self, scope: Scope, given: Action | None) -> Action:
        if scope is not Scope.SET:
            return given or Action.QUARANTINE
        if given in (Action.QUARANTINE, Action.DROP):
            raise RuleError(f"a rule over the whole set has no rows to {given}", hint="warn or fail", part="customProperties")
        return given or Action.WARN

    def _made(self, found: Found, columns: tuple[str, ...]) -> str:
        """COLUMN-METRIC-N, the first N that nobody has; the dataset's name where a rule is about no single column."""
        about = found.about or (columns[0] if len(columns) == 1 else None)
        stem = (self._names.get(about, about) if about else self._root["name"], found.kind)
        while True:
            self._counts[stem] += 1
            made = f"{stem[0]}-{stem[1]}-{self._counts[stem]}"
            if made not in self._given:
                return made

    def _resolve(self, name: str) -> str:
        column = self._by_name.get(name) or resolve_name(name, self._by_name)
        if column is None:
            raise RuleError(f"there is no property {name!r} in the contract", hint=nearest(name, self._by_name))
        return self._by_name[column]


def _asked(node: Mapping[str, Any], part: Trail, metric: str) -> object:
    """What a property's own key asks: of one that is about its inside all that says what is inside."""
    if metric == "shape":
        return {key: node[key] for key in ("properties", "items", "map", "logicalTypeOptions", "enum") if key in node}
    if metric == "type":
        return [node.get("logicalType"), node.get("physicalType"), (node.get("logicalTypeOptions") or {}).get("format")]
    found: Any = node
    for step in part:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found if found is not None else True
