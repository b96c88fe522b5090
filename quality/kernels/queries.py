"""UnexpectedRowsExpectation: a query that finds the rows that should not be there, asked of DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import Formatter

import duckdb
import pyarrow as pa

from journal import duckdb_errors
from journal.duckdb_session import quoted
from quality.frame import Frame
from quality.kernels.arguments import Arguments
from quality.kernels.errors import BadExpectation
from quality.kernels.verdict import SetVerdict
from quality.kernels.whole import SetKernel, chosen

_BATCH = "sluice_batch"
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {"enable_external_access": False, "autoload_known_extensions": False}


def unexpected_rows(arguments: Arguments) -> QueryKernel:
    """No row is found by a query over {batch}, the rows that are judged."""
    query = arguments.text("unexpected_rows_query")
    return QueryKernel(query)


class QueryKernel:
    """A query over a batch. Raises BadExpectation where it is none, or names anything but {batch}."""

    engine = "duckdb"

    columns: tuple[str, ...] = ()

    def __init__(self, query: str) -> None:
        hint = "write {{ and }} for braces that are meant"
        try:
            fields = {field for _, field, _, _ in Formatter().parse(query) if field is not None}
        except ValueError as error:
            raise BadExpectation(f"unexpected_rows_query has an unpaired brace: {error}", "unexpected_rows_query", hint=hint) from error
        if fields != {"batch"}:
            raise BadExpectation("unexpected_rows_query must read {batch}, and nothing else in braces", "unexpected_rows_query", hint=hint)
        self._sql = query.rstrip("; \t\r\n\v\f").format(batch=_BATCH)

    def prepare(self, types: Mapping[str, pa.DataType]) -> None:
        """Raises BadExpectation where DuckDB does not take the query over columns of these types."""
        self._count(pa.table({name: pa.nulls(0, of) for name, of in types.items()}), duckdb_errors.told)

    def judge(self, frame: Frame) -> SetVerdict:
        rows = chosen(frame, tuple(frame.columns), None)
        found = self._count(pa.table(dict(rows.columns)), duckdb_errors.kind)
        return SetVerdict(found == 0, found)

    def _count(self, table: pa.Table, said: Callable[[duckdb.Error], str]) -> int:
        with duckdb.connect(":memory:", config=_SETTINGS) as connection:
            connection.register(_BATCH, table)
            try:
                row = connection.execute(f"SELECT count(*) FROM ({self._sql}) AS {quoted('found')}").fetchone()
            except duckdb.Error as error:
                raise BadExpectation(f"unexpected_rows_query cannot be asked: {said(error)}", "unexpected_rows_query") from error
        return int(row[0]) if row else 0


OFFERED: Mapping[str, Callable[[Arguments], SetKernel]] = {"unexpected_rows_expectation": unexpected_rows}
