"""Whether a route makes sense: as far as can be told without the dataset's columns, or against them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from journal.expression import RowExpression
from journal.expression_tree import ExpressionError, parse
from journal.schema import TableSchema
from pipeline.errors import Problem
from pipeline.model import Route
from pipeline.names import nearest
from sinks.casts import ColumnCast
from sinks.columns import Action, ActionError, Cast, Drop, Mask, parse_action

_OWN = "_sluice_"  # bookkeeping columns begin with it
_OP = "_op"  # of a history table


def route_problems(route: Route, schema: TableSchema | None, file: Path | None = None) -> list[Problem]:
    """Everything that is wrong with a route, each with the route's line. `schema`: the dataset's columns and key, None if not known.

    A schema without a key says that the key is not known.
    """
    found = [*_where_problems(route, schema), *_column_problems(route, schema)]
    return [Problem(f"dataset `{route.dataset}`: {message}", file, route.line or None, hint) for message, hint in found]


class _Anything(Collection[str]):
    """The columns of a dataset of which nothing is known: every name is one."""

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _where_problems(route: Route, schema: TableSchema | None) -> Iterator[tuple[str, str | None]]:
    if route.where is None:
        return
    try:
        if schema is None:
            parse(route.where, _Anything(), table=route.dataset)
        else:
            RowExpression(route.where, schema.types, table=route.dataset)
    except ExpressionError as error:
        place = "" if error.position is None or "(at character" in error.message else f" (at character {error.position + 1})"
        yield f"`where`: {error.message}{place}", error.hint


def _column_problems(route: Route, schema: TableSchema | None) -> Iterator[tuple[str, str | None]]:
    dropped = set()
    for name, text in route.columns.items():
        if schema is not None and name not in schema.names:
            yield f"`columns`: there is no column {name!r}", nearest(name, schema.names)
            continue
        try:
            action = parse_action(text)
        except ActionError as error:
            yield f"`columns.{name}`: {error}", error.hint
            continue
        if isinstance(action, Drop):
            dropped.add(name)
        if schema is not None:
            yield from ((f"`columns.{name}`: {message}", hint) for message, hint in _misuses(name, action, schema))
    kept = [] if schema is None else [name for name in schema.names if name not in dropped]
    if dropped and schema is not None and not kept:
        yield "`columns`: no column is left", None
    for name in kept:
        if name.lower().startswith(_OWN) or (route.mode == "history" and name.lower() == _OP):
            yield f"the column {name!r} has a name that Sluice needs in the sink's table", "drop it, under `columns`"


def _misuses(name: str, action: Action, schema: TableSchema) -> Iterator[tuple[str, str | None]]:
    """What is wrong with doing this to that column."""
    in_key = name in schema.key
    if in_key and isinstance(action, Drop):
        yield "a key column cannot be dropped, the rows could not be told apart", "mask(hash) hides it and keeps them apart"
    if in_key and isinstance(action, Mask) and action.kind != "hash":
        yield f"a key column cannot be masked with mask({action.kind}), the rows could not be told apart", "use mask(hash)"
    if isinstance(action, Cast):
        problem = ColumnCast(schema.types[name], action.type).problem()
        if problem:
            yield problem, None
