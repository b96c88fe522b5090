"""What a process that only moves changes starts without."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from types import ModuleType

import pyarrow as pa


class _Absent:
    """Lets one package seem not to be installed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == self._package:
            raise ModuleNotFoundError(f"{name} is not looked for", name=name)


def forgo_pandas() -> None:
    """Keeps pyarrow from importing pandas, for which it looks once, the first time that it is given a Python value or a numpy array.

    That takes a third of a second and 50 MB. Whoever imports pandas afterwards, or asks pyarrow for one of its frames, has it.
    """
    if "pandas" in sys.modules:
        return
    absent = _Absent("pandas")
    sys.meta_path.insert(0, absent)
    try:
        pa.scalar(0)
    finally:
        sys.meta_path.remove(absent)


def seldom_collect() -> None:
    """Looks for cyclic garbage a hundred times less often, and never in what is there already.

    Messages become tens of thousands of tuples at a time, none of them in a cycle: looking through them took a fifth of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
