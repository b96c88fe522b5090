"""The promise of a draft: each of its rules is judged by the gate's own kernels on all rows, and goes out if one of them breaks it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import SluiceError
from quality.contract import Contract
from quality.contract_reading import load_contract
from quality.frame import Frame
from quality.kernels.verdict import RowVerdict
from quality.profile.draft import without
from quality.profile.held import Held
from quality.profile.stage import Stage
from quality.profile.writing import as_yaml
from quality.rules import RowJudge, Rule, Scope, Types


def proven(draft: Mapping[str, Any], stage: Stage, held: Sequence[Held], folder: Path) -> tuple[dict[str, Any], list[Rule]]:
    """The draft without rules that a row breaks, and those rules. Rules about several rows (unique) were counted, and are not judged again.

    Raises ConfigError for a draft that is not a sound contract, which would be a defect.
    """
    kept = copy.deepcopy(dict(draft))
    broken = _broken(_loaded(kept, folder), stage, held) if stage.rows else []
    for rule in broken:
        without(kept, rule.kind, rule.columns, rule.id)
    if broken:
        _loaded(kept, folder)
    return kept, broken


def _loaded(draft: Mapping[str, Any], folder: Path) -> Contract:
    file = folder / "draft.odcs.yaml"
    file.write_text(as_yaml(draft), "utf-8")
    return load_contract(file)


def _broken(contract: Contract, stage: Stage, held: Sequence[Held]) -> list[Rule]:
    types: Types = {one.field.name: one.held for one in held if one.held is not None}
    judges: dict[str, tuple[Rule, RowJudge]] = {}
    broken: dict[str, Rule] = {}
    for rule in contract.rules:
        if rule.scope is Scope.ROW:
            judges[rule.id] = (rule, rule.compile(types))  # type: ignore[assignment]  # of rows
    wanted = sorted({column for rule, _ in judges.values() for column in rule.columns})
    places = {one.field.name: place for place, one in enumerate(held)}
    if not wanted:
        return []
    for batch in stage.batches([f"c{places[name]}" for name in wanted]):
        frame = _frame({name: held[places[name]].read(batch.column(f"c{places[name]}")) for name in wanted}, batch.num_rows)
        for rule, judge in list(judges.values()):
            if _breaks(judge, frame):
                broken[rule.id] = rule
                del judges[rule.id]
    return list(broken.values())


def _breaks(judge: RowJudge, frame: Frame) -> bool:
    try:
        verdict: RowVerdict = judge.judge(frame)
    except (SluiceError, pa.ArrowException):
        return True
    return bool(verdict.failed.any())


def _frame(columns: Mapping[str, Any], rows: int) -> Frame:
    malformed = {name: column.malformed for name, column in columns.items() if np.any(column.malformed)}
    return Frame({name: column.values for name, column in columns.items()}, rows, malformed)
