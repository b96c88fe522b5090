"""The identity of a row of a table without a key: a hash of all its values, for a whole batch at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pyarrow as pa

from journal.duckdb_session import session

ROW = "_sluice_row"

_FEW = 20  # rows below which a query takes longer than hashing them here


def row_hashes(columns: Sequence[pa.StringArray]) -> pa.StringArray:
    """string array[n]: md5 as 32 hex digits, equal exactly for rows with equal text and nulls in every column.

    Hashed are the values one after the other, each as its number of bytes in UTF-8, a colon and the value; a null as N. A target with the
    same text can compute it itself.
    """
    return _few(columns) if len(columns[0]) < _FEW else _many(columns)


def _few(columns: Sequence[pa.StringArray]) -> pa.StringArray:
    hashes = []
    for row in zip(*(column.to_pylist() for column in columns), strict=True):
        values = [None if value is None else value.encode() for value in row]
        text = b"".join(b"N" if value is None else b"%d:%b" % (len(value), value) for value in values)
        hashes.append(hashlib.md5(text, usedforsecurity=False).hexdigest())
    return pa.array(hashes, pa.string())


def _many(columns: Sequence[pa.StringArray]) -> pa.StringArray:
    names = [f"c{i}" for i in range(len(columns))]
    parts = " || ".join(f"coalesce(strlen({name}) || ':' || {name}, 'N')" for name in names)
    hashes = session().over(pa.table(list(columns), names), f"SELECT md5({parts}) AS h FROM given")["h"].cast(pa.string())
    return pa.concat_arrays(hashes.chunks)
