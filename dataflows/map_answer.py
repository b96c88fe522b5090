"""What a map gives for the rows of a batch, and how the rows are found on which it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataflows.map_types import UNFIT
from journal.batch import Longs
from journal.quarantine import Reason

MAP = "map"
"""The rule that a row breaks which its map does not make a row of its dataset of."""


class RowsError(Exception):
    """A map fails on some of the rows that it was given; the text says how, and repeats no value."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Postgres' text by column, one value for each of the rows asked about, null where the row is in `bad`: row -> why it has none."""

    columns: Mapping[str, pa.StringArray]
    bad: dict[int, Reason] = field(default_factory=dict)


def bad_row(message: str, column: str | None = None) -> Reason:
    """Why the map gives no row, in words that repeat no value."""
    return Reason(MAP, column, message, None)


def bisected(rows: int, attempt: Callable[[int, int], pa.Table]) -> tuple[list[pa.Table], dict[int, Reason]]:
    """The answers for stretches of the rows, in order. Where `attempt` raises RowsError its stretch is halved until the row is found."""
    answers: list[pa.Table] = []
    bad: dict[int, Reason] = {}
    stretches = [(0, rows)]
    while stretches:
        start, stop = stretches.pop()
        try:
            answers.append(attempt(start, stop))
        except RowsError as error:
            if stop - start <= 1:
                bad[start] = bad_row(str(error))
            else:
                middle = (start + stop) // 2
                stretches += [(middle, stop), (start, middle)]
    return answers, bad


def aligned(number: pa.ChunkedArray, columns: Sequence[pa.ChunkedArray], rows: int, bad: dict[int, Reason]) -> list[pa.Array]:
    """The columns with one value for each row, by the numbers of the rows that they are for; a row with none, or with several, is bad."""
    at: Longs = np.asarray(number)
    whole = [one_array(column) for column in columns]
    if len(at) == rows and (at == np.arange(rows)).all():
        return whole
    times = np.bincount(at, minlength=rows)
    for row in np.flatnonzero(times != 1):
        if int(row) not in bad:
            bad[int(row)] = bad_row("the map gives no row for it" if times[row] == 0 else f"the map gives {times[row]} rows for it")
    place = np.zeros(rows, np.int64)
    place[at] = np.arange(len(at))
    index = pa.array(place, mask=times != 1)
    return [column.take(index) for column in whole]


def fitting(name: str, target: str, text: pa.StringArray, bad: dict[int, Reason]) -> pa.StringArray:
    """The text without what does not fit the column; such rows are bad."""
    unfit = pc.fill_null(pc.equal(text, UNFIT), False)
    if not unfit.true_count:
        return text
    for row in np.flatnonzero(np.asarray(unfit)):
        bad.setdefault(int(row), bad_row(f"what the map gives for {name} does not fit {target}", name))
    return pc.if_else(unfit, None, text)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column of a table in one piece."""
    return (
        column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    )
