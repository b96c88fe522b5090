"""Great Expectations itself, asked about a frame: the reference for the kernels, for tests and for audits, never for the hot path.

Importing it takes seconds and hundreds of megabytes, so it is imported when the first question is asked. It tells nobody: its
analytics are off. One `Reference` serves one thread; threads that share one get wrong answers.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from quality.column import Column, family
from quality.frame import Frame
from quality.kernels.verdict import RowVerdict, SetVerdict
from quality.pandas_form import series

if TYPE_CHECKING:
    import pandas as pd

Form = Literal["nullable", "plain", "objects", "strings"]
Forms = Form | Mapping[str, Form]  # of all columns, or of some while the others are nullable


@dataclass(frozen=True)
class Refusal:
    """Great Expectations gave no verdict: it refused the arguments, or failed on the values."""

    message: str


Answer = RowVerdict | SetVerdict | Refusal


class Reference:
    """Great Expectations with its pandas engine, over frames that are given to it."""

    def __init__(self) -> None:
        os.environ["GX_ANALYTICS_ENABLED"] = "false"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _quieten()
            import great_expectations
            from great_expectations.data_context.types.base import ProgressBarsConfig

            _quieten()
            context = great_expectations.get_context(mode="ephemeral")
            context.variables.progress_bars = ProgressBarsConfig(globally=False)
            self._batches = (
                context.data_sources.add_pandas("frames").add_dataframe_asset("frame").add_batch_definition_whole_dataframe("whole")
            )

    def judge(self, frame: Frame, rules: Sequence[tuple[str, Mapping[str, object]]], form: Forms = "nullable") -> list[Answer]:
        """What Great Expectations says of each rule (its name and arguments), over all rows of the frame, held in this form.

        Malformed and absent values are null to it: leave their rows out first.
        """
        table = as_pandas(frame, form)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            batch = self._batches.get_batch({"dataframe": table})
            return [_answer(batch, kind, kwargs, frame.rows) for kind, kwargs in rules]


def _quieten() -> None:
    """It logs what concerns nobody; one of its loggers is given a level of its own when it is imported."""
    for logger in ("great_expectations", "great_expectations.data_context.types.base"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)


def as_pandas(frame: Frame, form: Forms) -> pd.DataFrame:
    """A frame as pandas holds it. `nullable` is what quality.pandas_form says. `plain` has integers as numpy has them (doubles where
    there are nulls), decimals as doubles, dates as times, and text and booleans in types of pandas' own. `strings` is nullable with
    text of another such type. `objects` has Python's own values throughout.
    """
    import pandas as pd

    forms = dict.fromkeys(frame.columns, form) if isinstance(form, str) else {name: form.get(name, "nullable") for name in frame.columns}
    return pd.DataFrame({name: _held(frame.column(name), forms[name]) for name in frame.columns}, index=pd.RangeIndex(frame.rows))


def _held(column: Column, form: Form) -> Any:
    import pandas as pd

    kind = family(column.type)
    if form == "plain" and kind in ("int", "decimal"):
        return pd.Series(column.doubles if column.missing is not None or kind == "decimal" else column.numbers.copy())
    if form == "plain" and kind == "date":
        return series(Column(column.array.cast(pa.timestamp("us"))))
    if form == "plain" and kind in ("text", "bool"):
        return series(column).astype("str" if kind == "text" else "boolean")
    if form == "strings" and kind == "text":
        return series(column).astype("string")
    if form != "objects":
        return series(column)
    values = series(column)
    missing = np.zeros(len(column), np.bool_) if column.missing is None else column.missing
    return pd.Series([None if gone else value for value, gone in zip(values.tolist(), missing, strict=True)], dtype=object)


def _answer(batch: Any, kind: str, kwargs: Mapping[str, object], rows: int) -> Answer:
    from great_expectations.expectations.registry import get_expectation_impl

    arguments: dict[str, Any] = dict(kwargs)
    try:
        expectation = get_expectation_impl(kind)(**arguments)
        result = batch.validate(expectation, result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False})
    except Exception as error:  # noqa: BLE001  (whatever it is, it is no verdict, and is handed on)
        return Refusal(f"{type(error).__name__}: {error}")
    raised = _raised(result.exception_info)
    if raised is not None:
        return Refusal(raised)
    found = result.result or {}
    if "unexpected_count" in found and "element_count" in found:
        failed = np.zeros(rows, np.bool_)
        failed[list(found.get("unexpected_index_list") or ())] = True
        missing = found.get("missing_count")
        evaluated = found["element_count"] - (missing if missing is not None else 0)
        return RowVerdict(int(evaluated), failed, bool(result.success))
    return SetVerdict(bool(result.success), found.get("observed_value"))


def _raised(info: Any) -> str | None:
    """The message of an exception that a result carries: one, or one for each metric."""
    if not info:
        return None
    each = [info] if "raised_exception" in info else list(info.values())
    return next((str(one["exception_message"]) for one in each if one["raised_exception"]), None)
