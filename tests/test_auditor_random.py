"""A correct gate gives the auditor nothing to say: random rules of Great Expectations over random and hostile rows.

The seeds are fixed; AUDIT_SEED and AUDIT_BATCHES explore others.
"""

from __future__ import annotations

import datetime as dt
import os
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from journal.batch import ChangeBatch, Op, Presence, batch_from_columns
from journal.schema import Column, TableSchema
from pipeline.errors import SluiceError
from quality.agreement import judged_columns
from quality.auditor import NO_VERDICT, RULE, Auditor
from quality.check_reading import AMONG_OTHERS
from quality.contract import Contract
from quality.contract_reading import load_contract
from quality.gate import Gate
from quality.kernels import compile_expectation
from quality.kernels.gx import Reference
from quality.kernels.registry import SET_EXPECTATIONS
from quality.rules import Action, Rule, Scope, Types, arrow_types
from tests.contract_text import write_contract
from tests.kernel_cases import ARGUMENTS, SET_ARGUMENTS, Writer
from tests.kernel_values import VALUES

pytestmark = pytest.mark.timeout(600)

SEED = int(os.environ.get("AUDIT_SEED", "1"))
BATCHES = int(os.environ.get("AUDIT_BATCHES", "2"))
ROWS = 30

TYPES: Mapping[str, tuple[str, str]] = {
    "ints": ("bigint", "integer"), "small": ("smallint", "integer"), "huge": ("bigint", "integer"),
    "floats": ("double precision", "number"), "tame": ("double precision", "number"),
    "money": ("numeric(12,2)", "number"), "fine": ("numeric(30,8)", "number"),
    "texts": ("text", "string"), "strange": ("text", "string"), "dates_as_text": ("text", "string"), "json": ("text", "string"),
    "flags": ("boolean", "boolean"), "days": ("date", "date"), "times": ("timestamp without time zone", "timestamp"),
    "zoned": ("timestamp with time zone", "timestamp"),
}  # fmt: skip
NAMES = [name for kind in TYPES for name in (kind, f"{kind}_2")]
SCHEMA = TableSchema(
    "orders",
    (Column("id", "bigint", 1), *(Column(name, TYPES[name.removesuffix("_2")][0], n + 2) for n, name in enumerate(NAMES))),
    ("id",),
)


def written(value: object) -> str | None:
    """A value as Postgres writes it."""
    if value is None or isinstance(value, str):
        return value if value is None else value.replace("\x00", "")
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, float):
        return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(repr(value), repr(value))
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return str(value)


def changes(chance: random.Random) -> ChangeBatch:
    """Inserts and updates of many keys, some changed twice, some columns not carried."""
    keys = pa.array([str(chance.randrange(ROWS)) for _ in range(ROWS)])
    columns = [
        pa.array(
            [None if chance.random() < 0.2 else written(chance.choice(VALUES[name.removesuffix("_2")][1])) for _ in range(ROWS)],
            pa.string(),
        )
        for name in NAMES
    ]
    op = np.array([chance.choice((Op.INSERT, Op.READ, Op.UPDATE, Op.UPDATE, Op.DELETE)) for _ in range(ROWS)], np.uint8)
    absent = {
        place: np.where((op == Op.UPDATE) & (np.array([chance.random() for _ in range(ROWS)]) < 0.3), Presence.ABSENT, Presence.PRESENT)
        for place in chance.sample(range(1, len(NAMES) + 1), 4)
    }
    batch = batch_from_columns(SCHEMA, [keys, *columns], Op.INSERT, source="db", table="public.orders", first=1)
    return replace(batch, op=op, presence={place: codes.astype(np.uint8) for place, codes in absent.items()})


def rules(seed: int, types: Types) -> list[Rule]:
    """One of each expectation, as far as it goes with the types."""
    writer, found = Writer(seed), []
    for kind in (*ARGUMENTS, *SET_ARGUMENTS):
        for attempt in range(5):
            _, arguments = writer.rule(kind)
            if "bytes" in {name.removesuffix("_2") for name in judged_columns((kind, arguments))}:
                continue
            rule = _rule(f"{kind}-{attempt}", kind, arguments, writer.chance.choice((Action.QUARANTINE, Action.WARN)))
            try:
                judge = rule.compile(types)
            except SluiceError:
                continue
            found.append(replace(rule, columns=tuple(judge.columns)))
            break
    return found


def _rule(name: str, kind: str, arguments: dict[str, Any], action: Action) -> Rule:
    scope = Scope.SET if kind in SET_EXPECTATIONS else Scope.BATCH if kind in AMONG_OTHERS else Scope.ROW
    return Rule(
        name, kind, (), None, scope, lambda types: compile_expectation(kind, arguments, arrow_types(types)), 1, kind,
        action=Action.WARN if scope is Scope.SET else action, expectation=(kind, arguments),
    )  # fmt: skip


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    lines = [f"      - {{name: {name}, logicalType: {TYPES[name.removesuffix('_2')][1]}}}" for name in NAMES]
    return load_contract(write_contract(tmp_path_factory.mktemp("contract"), "    properties:\n" + "\n".join(lines) + "\n"))


def test_a_correct_gate_gives_the_auditor_nothing_to_say(contract: Contract, reference: Reference) -> None:
    types = {name: known for name in NAMES if (known := contract.columns[name].held(SCHEMA.types[name])) is not None}
    judged = 0
    for seed in range(SEED, SEED + BATCHES):
        batch = changes(random.Random(seed))
        asked = replace(contract, rules=[*contract.rules, *rules(seed, types)])
        judgement = Gate(asked, SCHEMA).judge(batch)
        assert judgement.failure is None
        auditor = Auditor(asked, SCHEMA, lambda: reference)
        held = np.array([one.row for one in judgement.quarantined], np.int64)
        broken = {
            rule.id: np.array([any(reason.rule == rule.id for reason in one.reasons) for one in judgement.quarantined], np.bool_)
            for rule in asked.rules
        }
        found = auditor.rows(batch.take(judgement.passed), {}) + auditor.rows(batch.take(held), broken) + auditor.sets(batch)
        for finding in found:
            for trouble in finding.troubles:
                unsound = trouble.kind == NO_VERDICT and "cannot be judged" in trouble.message  # a bound of another kind than the values
                assert trouble.kind == RULE or unsound, f"seed {seed}: {trouble} of {finding.rule.expectation}"
        judged += sum(finding.engine == "gx" for finding in found)
    assert judged > 40 * BATCHES
