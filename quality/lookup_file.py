"""The rows of a lookup, from a file.

`NAME=FILE`, or `NAME=FILE:COLUMN,…` where its key is called otherwise than the columns that refer to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ConfigError
from pipeline.names import nearest
from quality.contract import Contract
from quality.data_file import read_data
from quality.latest import equal_codes
from quality.references import References

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LookupFile:
    """A file, and the columns of its key, in the order in which rules name theirs; none given: those of the rule."""

    name: str
    file: Path
    key: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> LookupFile:
        """Reads `NAME=FILE` or `NAME=FILE:COLUMN,…`. Raises ConfigError for anything else."""
        name, equals, rest = text.partition("=")
        if not (name and equals and rest):
            raise ConfigError(f"{text!r} is no lookup", hint="NAME=FILE, or NAME=FILE:COLUMN,… with the columns of its key")
        path, colon, key = rest.rpartition(":")
        if not colon or Path(rest).exists():
            return cls(name, Path(rest))
        return cls(name, Path(path), tuple(part.strip() for part in key.split(",") if part.strip()))

    def read(self, rule: References, contract: Contract) -> FileRows:
        """The keys of the rows, read as the columns are that refer to them. Raises ConfigError for a file that has no such key."""
        key = self.key or rule.columns
        if len(key) != len(rule.columns):
            raise ConfigError(f"the lookup {self.name} has a key of {len(key)} column(s), and the rule {len(rule.columns)}")
        columns = _columns(self.file, rule, key, contract)
        lacking = next((name for name in key if name not in columns), None)
        if lacking is not None and not self.key and len(key) == len(columns) == 1:
            key = tuple(columns)
            columns = _columns(self.file, rule, key, contract)
        elif lacking is not None:
            near = nearest(lacking, columns)
            hint = f"--lookup {self.name}={self.file}:COLUMN says how its key is called" + (f"; {near}" if near else "")
            raise ConfigError(f"{self.file} has no column {lacking!r}", hint=hint)
        return FileRows(tuple(rule.types[own].postgres for own in rule.columns), [columns[name].cast(pa.string()) for name in key])


def _columns(file: Path, rule: References, key: Sequence[str], contract: Contract) -> Mapping[str, pa.Array]:
    """The columns of a file; those of the key as the rule's own are held."""
    properties = [replace(contract.columns[own], name=name, column=name) for own, name in zip(rule.columns, key, strict=True)]
    return read_data(file, replace(contract, properties=properties, rules=())).found.columns


@dataclass(frozen=True, slots=True, eq=False)
class FileRows:
    """A lookup that does not change: one string array for each column of its key."""

    key_types: Sequence[str]
    keys: Sequence[pa.StringArray]

    def lacks(self, keys: Sequence[pa.StringArray]) -> Mask:
        """bool[n]: there is no row with this key."""
        if len(keys) == 1:
            return ~np.asarray(pc.is_in(keys[0], value_set=self.keys[0]))
        n = len(keys[0])
        codes, whole = equal_codes([pa.concat_arrays([asked, known]) for asked, known in zip(keys, self.keys, strict=True)])
        return np.asarray(~np.isin(codes[:n], codes[n:][whole[n:]]), np.bool_)
