"""What the sinks hold now under a key: asked of themselves, where the journal has forgotten the changes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace

import pyarrow as pa

from dataflows.build import build_sink
from journal.schema import Column, TableSchema
from pipeline.errors import SluiceError
from pipeline.model import Pipeline, Route, SinkBlock
from sinks.bookkeeping import POSITION
from sinks.routing import Router


@dataclass(frozen=True, slots=True)
class Holding:
    """Whether a sink has a row (None: it cannot tell, `why`), and the position of that row's newest change, where the sink keeps it."""

    held: bool | None
    position: int | None = None
    why: str | None = None


def holdings(pipeline: Pipeline, schema: TableSchema, key: Mapping[str, str]) -> dict[str, Holding]:
    """Of each sink that takes the dataset. Connects to them, and changes nothing there."""
    routed = {name: (block, route) for name, block in pipeline.sinks.items() if (route := block.route(schema.dataset)) is not None}
    return {name: _holding(pipeline, *found, schema, key) for name, found in routed.items()}


def _holding(pipeline: Pipeline, block: SinkBlock, route: Route, schema: TableSchema, key: Mapping[str, str]) -> Holding:
    if any(name in route.columns for name in key):
        return Holding(None, why="its key is not the dataset's: the route changes it")
    keys = pa.table({name: pa.array([value], pa.string()) for name, value in key.items()})
    try:
        target = Router(route, schema, b"").target
        told = replace(target, schema=replace(target.schema, columns=(*target.schema.columns, Column(POSITION, "bigint"))))
        with closing(build_sink(pipeline, block)) as sink:
            rows = pa.concat_tables(list(sink.read(told, keys)) or [pa.table({POSITION: pa.array([], pa.string())})])
    except SluiceError as error:
        return Holding(None, why=error.message)
    position = rows[POSITION][0].as_py() if rows.num_rows else None
    return Holding(rows.num_rows > 0, None if position is None else int(position))
