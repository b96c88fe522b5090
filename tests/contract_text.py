"""Contracts of a few lines, for tests: what every contract has is written here once, and how problems are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError, Problem
from quality.contract_reading import load_contract

HEAD = """\
apiVersion: {version}
kind: DataContract
id: orders
version: 1.0.0
status: active
schema:
  - name: orders
"""


def contract_of(body: str, *, version: str = "v3.1.0") -> str:
    """A contract whose schema object is `body`, indented by four spaces; its first line is line 8."""
    return HEAD.format(version=version) + body


def write_contract(folder: Path, body: str, *, version: str = "v3.1.0", name: str = "orders.odcs.yaml") -> Path:
    """Writes what `contract_of` gives."""
    file = folder / name
    file.write_text(contract_of(body, version=version))
    return file


def one_column(column: str, logical_type: str, *, options: str = "", quality: str = "", more: str = "") -> str:
    """A schema object with one property. `quality` has a check a line, from line 12 of the file, or 13 with `options` (line 11)."""
    lines = ["    properties:", f"      - name: {column}", f"        logicalType: {logical_type}{more}"]
    if options:
        lines.append(f"        logicalTypeOptions: {{{options}}}")
    if quality:
        lines.append("        quality:")
        lines += [f"          - {line}" for line in quality.strip().splitlines()]
    return "\n".join(lines) + "\n"


def positive_amounts(key: str, order: str) -> str:
    """A schema object whose `id` is of the logical type `key`, and whose records go on by `order`: newest or strict."""
    return f"""\
    properties:
      - {{name: id, logicalType: {key}, primaryKey: true}}
      - name: amount
        logicalType: integer
        quality:
          - {{id: positive, type: sql, query: amount > 0, mustBe: true}}
    customProperties:
      - {{property: order, value: {order}}}
"""


def problems(file: Path) -> list[Problem]:
    """What is said to be wrong with a contract."""
    with pytest.raises(ConfigError) as caught:
        load_contract(file)
    assert caught.value.exit_code == 2
    assert all(problem.file == file for problem in caught.value.problems if problem.line)
    return list(caught.value.problems)


def only_problem(file: Path) -> Problem:
    """The one thing that is wrong with a contract."""
    (problem,) = problems(file)
    return problem
