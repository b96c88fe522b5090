"""What rules cost here and now: each is asked about a batch that was made up to fit the types of its columns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from journal.batch import Op, batch_from_columns
from journal.schema import TableSchema
from pipeline.errors import SluiceError
from quality.batch_frame import FrameOfBatch
from quality.contract import Contract
from quality.frame import Frame
from quality.logical_types import Judged
from quality.rules import Rule, Scope
from quality.step import StepJudge

_ROWS = 10_000
_DISTINCT = 997  # values: neither all the same, nor all different
_TIMES = 3
_LONG = 0.02  # seconds after which once is enough

_TEXTS: Mapping[str, Callable[[int], str]] = {
    "integer": str,
    "number": lambda n: f"{n}.25",
    "boolean": lambda n: "t" if n % 2 else "f",
    "date": lambda n: f"20{n % 30:02}-{n % 12 + 1:02}-{n % 28 + 1:02}",
    "timestamp": lambda n: f"20{n % 30:02}-{n % 12 + 1:02}-{n % 28 + 1:02} 12:{n % 60:02}:00",
    "time": lambda n: f"{n % 24:02}:{n % 60:02}:00",
    "uuid": lambda n: f"00000000-0000-4000-8000-{n:012}",
    "json": lambda n: f'{{"number": {n}}}',
    "binary": lambda n: f"\\x{n:08x}",
}


def rule_costs(contract: Contract, schema: TableSchema, seconds: float = 0.5) -> dict[str, float]:
    """Rule -> nanoseconds for a row, the best of a few times. `schema` are the columns that the rules are asked about.

    Takes about `seconds`. Of rules that come last and of those that need the stream or a lookup nothing is said.
    """
    types = {name: held for name, kind in schema.types.items() if (held := contract.columns[name].held(kind)) is not None}
    made = FrameOfBatch(contract, types, types)
    texts = [_texts(types.get(name)) for name in schema.names]
    frame = made.frame(batch_from_columns(schema, texts, Op.INSERT), {})
    until = time.perf_counter() + seconds
    found: dict[str, float] = {}
    for rule in contract.rules:
        if time.perf_counter() > until:
            break
        if rule.lookup is None and rule.scope in (Scope.ROW, Scope.BATCH, Scope.SET) and (cost := _cost(rule, types, frame)) is not None:
            found[rule.id] = cost
    return found


def _cost(rule: Rule, types: Mapping[str, Judged], frame: Frame) -> float | None:
    try:
        judge = rule.compile(types)
        if isinstance(judge, StepJudge):
            return None
        best = float("inf")
        for _ in range(_TIMES):
            fresh = Frame(frame.columns, frame.rows, frame.malformed)  # nothing is known of its columns yet
            began = time.perf_counter()
            judge.judge(fresh)
            took = time.perf_counter() - began
            best = min(best, took)
            if took > _LONG:
                break
    except (SluiceError, KeyError):  # a rule over these columns; `check` says elsewhere what is wrong with it
        return None
    return best / frame.rows * 1e9


def _texts(held: Judged | None) -> pa.StringArray:
    family = "text" if held is None else held.family
    array = held is not None and held.postgres.endswith("[]")
    make = _TEXTS.get(family, _text)
    if family == "array":
        make = _array if array else _list
    values = pa.array([make(n) for n in range(_DISTINCT)], pa.string())
    return values.take(pa.array(np.arange(_ROWS) % _DISTINCT))


def _text(n: int) -> str:
    return f"text {n}"


def _array(n: int) -> str:
    return f"{{{n}}}"


def _list(n: int) -> str:
    return f"[{n}]"
