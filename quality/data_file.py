"""Reads a file of records into a typed frame, as a contract says what its columns hold.

    .csv                       a header line; an empty field without quotes is null, one in quotes is empty text
    .jsonl .ndjson .json       one object a line; a key that is not there is null
    .parquet .arrow .feather   typed values; text is read as the contract's type

A value that is not of its column's type is malformed: null in the frame, and marked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from journal.types import TypedColumn
from pipeline.errors import ConfigError
from quality.contract import Contract, Property
from quality.frame import Frame
from quality.json_records import read_json_lines
from quality.reading import read_values
from quality.typed_columns import as_contract_says

Mask = npt.NDArray[np.bool_]
CSV, JSON, PARQUET, ARROW = (".csv",), (".jsonl", ".ndjson", ".json"), (".parquet", ".pq"), (".arrow", ".arrows", ".feather", ".ipc")
_BLOCKS = (1 << 20, 1 << 25, (1 << 31) - 1)
"""Bytes of a CSV file that are read at once: a row has to fit, and most do."""


@dataclass(frozen=True)
class Data:
    """What a file holds. `found` has the file's own columns, in their order; `frame` also those of the contract that it lacks, as nulls."""

    found: Frame
    frame: Frame
    lacking: tuple[str, ...]


def read_data(file: Path, contract: Contract) -> Data:
    """Raises ConfigError for a file that cannot be read, with the line where it is at fault."""
    suffix = file.suffix.lower()
    with read_errors(file):
        if suffix in CSV:
            columns = {name: _from_text(text, prop) for name, (text, prop) in _texts(file, contract).items()}
            rows = len(next(iter(columns.values())).values) if columns else 0
        elif suffix in JSON:
            columns, rows = read_json_lines(file, contract)
            if not rows:  # it says nothing of its columns
                columns = {
                    name: TypedColumn(pa.nulls(0, held.arrow), np.zeros(0, np.bool_)) for name, held in contract.types_in_files.items()
                }
        elif suffix in PARQUET + ARROW:
            table = pyarrow.parquet.read_table(file) if suffix in PARQUET else _arrow(file)
            columns, rows = (
                {
                    column_of(name, contract): as_contract_says(_one(table[name]), prop)
                    for name, prop in _properties(table.column_names, contract)
                },
                table.num_rows,
            )
        else:
            raise unknown_suffix(file)
    return _data(columns, rows, contract)


_SHOWN = re.compile(r"(Expected \d+ columns, got \d+):.*")


@contextmanager
def read_errors(file: Path) -> Iterator[None]:
    """Turns what a file's reader says into a ConfigError that names the file."""
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeError) as error:
        # of a line that has too few fields or too many pyarrow shows the text, which may be anybody's
        reason = getattr(error, "strerror", None) or _SHOWN.sub(r"\1", str(error).split("\n")[0])
        raise ConfigError(f"{file} cannot be read: {reason}") from error


def unknown_suffix(file: Path) -> ConfigError:
    """The error for a file of which nobody knows how to read it."""
    known = ", ".join(CSV + JSON + PARQUET + ARROW)
    return ConfigError(f"{file} has no known suffix", hint=f"these are read: {known}")


def _data(columns: Mapping[str, TypedColumn], rows: int, contract: Contract) -> Data:
    malformed = {name: column.malformed for name, column in columns.items() if column.malformed.any()}
    values = {name: column.values for name, column in columns.items()}
    lacking = {name: pa.nulls(rows, held.arrow) for name, held in contract.types_in_files.items() if name not in columns}
    return Data(Frame(values, rows, malformed), Frame({**values, **lacking}, rows, malformed), tuple(lacking))


def column_of(name: str, contract: Contract) -> str:
    """The contract's column that a column of a file is: by the physical name, else by the name of the property."""
    if name in contract.columns:
        return name
    return next((prop.column for prop in contract.properties if prop.name == name), name)


def distinct_names(names: Sequence[str]) -> None:
    """Raises ConfigError where two columns have one name."""
    if len(set(names)) < len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise ConfigError(f"the file has two columns {twice!r}")


def _properties(names: list[str], contract: Contract) -> list[tuple[str, Property | None]]:
    distinct_names(names)
    columns = [column_of(name, contract) for name in names]
    for place, column in enumerate(columns):
        first = columns.index(column)
        if first < place:
            raise ConfigError(f"the file has both {names[first]!r} and {names[place]!r}, which are one column of the contract")
    return [(name, contract.columns.get(column)) for name, column in zip(names, columns, strict=True)]


def _texts(file: Path, contract: Contract) -> dict[str, tuple[pa.StringArray, Property | None]]:
    batches = list(csv_batches(file))
    table = pa.Table.from_batches(batches)
    return {column_of(name, contract): (_one(table[name]), prop) for name, prop in _properties(table.column_names, contract)}


def csv_batches(file: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV file as text, in batches, the first of which may have none. Raises ConfigError, ArrowInvalid or OSError."""
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    size = iter(_BLOCKS)
    reading = pyarrow.csv.ReadOptions(block_size=next(size))
    done = 0
    while True:
        try:
            for batch in _csv_from(file, parsing, reading, skip=done):
                yield batch
                done += batch.num_rows
            return
        except pa.ArrowInvalid as error:
            larger = next(size, None)
            if larger is None or "straddl" not in str(error):
                raise
            reading = pyarrow.csv.ReadOptions(block_size=larger)


def _csv_from(file: Path, parsing: pyarrow.csv.ParseOptions, reading: pyarrow.csv.ReadOptions, skip: int) -> Iterator[pa.RecordBatch]:
    """All rows but the first `skip`."""
    with file.open("rb") as stream:
        head = pyarrow.csv.open_csv(stream, read_options=reading, parse_options=parsing).schema.names
    distinct_names(head)
    convert = pyarrow.csv.ConvertOptions(
        column_types={name: pa.string() for name in head}, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    with file.open("rb") as stream:
        reader = pyarrow.csv.open_csv(stream, read_options=reading, parse_options=parsing, convert_options=convert)
        if not skip:
            yield pa.RecordBatch.from_arrays([pa.array([], pa.string()) for _ in head], names=head)
        for batch in reader:
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            yield batch.slice(skip)
            skip = 0


def _from_text(text: pa.StringArray, prop: Property | None) -> TypedColumn:
    held = prop.held() if prop is not None else None
    if prop is None or held is None:
        return TypedColumn(text, np.zeros(len(text), np.bool_))
    return read_values(text, held, by=prop.format, zone=prop.zone)


def _arrow(file: Path) -> pa.Table:
    with pa.memory_map(str(file)) as source:
        try:
            return pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source).read_all()


def _one(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)
