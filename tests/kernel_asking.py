"""Asking a kernel about a few columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from quality.frame import Frame
from quality.kernels import RowVerdict, SetVerdict, compile_expectation


def judge(kind: str, columns: dict[str, pa.Array], /, **arguments: Any) -> RowVerdict:
    rows = len(next(iter(columns.values())))
    found = compile_expectation(kind, arguments, {name: array.type for name, array in columns.items()}).judge(Frame(columns, rows))
    assert isinstance(found, RowVerdict)
    return found


def failing(kind: str, columns: dict[str, pa.Array], /, **arguments: Any) -> list[int]:
    return np.flatnonzero(judge(kind, columns, **arguments).failed).tolist()


def whole(kind: str, columns: dict[str, pa.Array], /, **arguments: Any) -> SetVerdict:
    rows = len(next(iter(columns.values())))
    found = compile_expectation(kind, arguments, {name: array.type for name, array in columns.items()}).judge(Frame(columns, rows))
    assert isinstance(found, SetVerdict)
    return found


def a(*values: Any, of: pa.DataType | None = None) -> dict[str, pa.Array]:
    return {"a": pa.array(values, of)}
