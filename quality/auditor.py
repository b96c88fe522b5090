"""Judges a second time what the gate has judged, and for the first time what only many rows together can break.

Rules that Great Expectations knows it judges itself, beside the kernels that agree with it; where the two do not say the same of a row,
that is told with both verdicts. Of other rules the engines of the gate are asked again. Where Great Expectations fails with an error of its
own there is no verdict of its, which is told too, and never taken for a failure of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from journal.batch import ChangeBatch, Op
from journal.schema import TableSchema
from pipeline.errors import SluiceError
from quality.agreement import WITHOUT_PANDAS, Compared, compare
from quality.batch_frame import FrameOfBatch
from quality.contract import Contract
from quality.frame import Frame
from quality.judgement import MASKED
from quality.kernels.gx import Reference, Refusal
from quality.kernels.verdict import RowVerdict, SetVerdict
from quality.latest import latest_of_each_key
from quality.logical_types import Judged
from quality.rules import Action, RowJudge, Rule, Scope, SetJudge
from quality.step import StepJudge

Mask = npt.NDArray[np.bool_]
Verdict = Literal["passes", "fails", "agrees", "differs", "none", "left-out"]

_ABOUT_COLUMNS = ("expect_table_column", "expect_column_to_exist")
HOLDS_BACK = (Action.QUARANTINE, Action.DROP, Action.FAIL)
_INSERTS = (Op.INSERT, Op.READ)
_ROWS_TOLD = 20
_LONGEST = 200  # characters of what was observed, in a message

RULE, DISAGREEMENT, GATE, NO_VERDICT = "rule", "disagreement", "gate", "no-verdict"
"""Kinds of incidents; see docs/auditor.md."""


@dataclass(frozen=True, slots=True)
class Contested:
    """A row, by its index in the batch, of which not all say the same: each `passes`, `fails`, or None where it was not asked."""

    row: int
    gate: str | None
    ours: str
    reference: str | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is not as it should be with a rule; `rows` are some of those that show it, of `count`."""

    kind: str
    message: str
    rows: Sequence[Contested] = ()
    count: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one rule: it was judged on so many `rows`, of which `failed` broke it, or it `observed` something."""

    rule: Rule
    verdict: Verdict
    engine: str
    rows: int
    failed: int = 0
    observed: object = None
    troubles: Sequence[Trouble] = ()


class Auditor:
    """A contract's rules over rows with certain columns. One thread."""

    def __init__(
        self, contract: Contract, schema: TableSchema, reference: Callable[[], Reference], columns: Collection[str] | None = None
    ) -> None:
        """`reference` gives Great Expectations when it is first needed. `columns`: those that are what the gate saw, where not all are.

        A rule that does not go with the columns is left out: the gate says so where that is wrong.
        """
        self.contract = contract
        self._schema = schema
        self._reference = reference
        self._whole = columns is None
        types: dict[str, Judged] = {}
        for name, kind in schema.types.items():
            prop = contract.columns.get(name)
            if prop is not None and (columns is None or name in columns) and (held := prop.held(kind)) is not None:
                types[name] = held
        self._frames = FrameOfBatch(contract, types, types)
        self._rules = [(rule, judge) for rule in contract.rules if (judge := self._compiled(rule, types)) is not None]

    def _compiled(self, rule: Rule, types: Mapping[str, Judged]) -> RowJudge | SetJudge | None:
        """What judges a rule; None for one that is not asked again: it looks at what a row was before, or in a lookup."""
        if rule.scope is Scope.KEY or rule.lookup is not None:
            return None
        about_columns = rule.scope is Scope.SET and rule.kind_of_expectation.startswith(_ABOUT_COLUMNS)
        if about_columns and not self._whole:
            return None
        if not about_columns and any(name not in types for name in rule.columns):
            return None
        try:
            judge = rule.compile(types)
        except SluiceError:
            return None
        return None if isinstance(judge, StepJudge) else judge

    def sets(self, batch: ChangeBatch) -> list[Finding]:
        """Rules over a set, and those that compare rows with each other, on the rows as they stand at the end of the batch."""
        standing = batch.take(latest_of_each_key(batch))
        if not len(standing):
            return []
        frame = self._frames.frame(standing, {})
        found = []
        for rule, judge in self._rules:
            if rule.scope is Scope.SET:
                found.append(
                    self._set(rule, judge, self._columns(standing) if rule.kind_of_expectation.startswith(_ABOUT_COLUMNS) else frame)
                )
            elif rule.scope is Scope.BATCH and self._known(rule):
                found.append(self._rows(rule, judge, frame, standing, None, None))
        return found

    def rows(self, batch: ChangeBatch, broken: Mapping[str, Mask] | None, comparable: Mask | None = None) -> list[Finding]:
        """Rules over rows, each row on its own. `broken`: rule id -> bool[n] of the rows that the gate found to break it, none where it is
        not named; None where nobody knows. Only `comparable` rows, if that is given, were judged by these rules."""
        asked = batch.take(np.isin(batch.op, (Op.INSERT, Op.READ, Op.UPDATE)))
        if not len(asked):
            return []
        kept = np.isin(batch.op, (Op.INSERT, Op.READ, Op.UPDATE))
        frame = self._frames.frame(asked, undecodable(asked))
        told = np.ones(len(asked), np.bool_) if comparable is None else comparable[kept]
        found = []
        for rule, judge in self._rules:
            if rule.scope is not Scope.ROW:
                continue
            gate = None if broken is None else broken[rule.id][kept] if rule.id in broken else np.zeros(len(asked), np.bool_)
            found.append(self._rows(rule, judge, frame, asked, gate, told, np.flatnonzero(kept)))
        return found

    def _known(self, rule: Rule) -> bool:
        """Whether Great Expectations judges it, too."""
        return rule.expectation is not None and rule.expectation[0] not in WITHOUT_PANDAS

    def _columns(self, batch: ChangeBatch) -> Frame:
        """All columns of the table, for rules about which there are."""
        return Frame(dict(zip(batch.schema.names, batch.columns, strict=True)), len(batch))

    def _asked(self, rule: Rule, ours: RowVerdict | SetVerdict, frame: Frame) -> Compared:
        """What Great Expectations says. The frame has no row for which the rule does not run."""
        expectation = rule.expectation or ("", {})
        if rule.columns:
            frame = Frame({name: frame.columns[name] for name in rule.columns if name in frame.columns}, frame.rows)
        return compare(expectation, ours, frame, self._reference())

    def _set(self, rule: Rule, judge: RowJudge | SetJudge, frame: Frame) -> Finding:
        skipped = frame.skipped(rule.columns)
        whole = frame if skipped is None else frame.where(~skipped)
        try:
            ours = judge.judge(whole)
        except SluiceError as error:
            return Finding(rule, "none", judge.engine, whole.rows, troubles=[Trouble(NO_VERDICT, self._hidden(rule, error.message))])
        if isinstance(ours, RowVerdict):  # the scope says that it is none
            return Finding(rule, "none", judge.engine, whole.rows)
        troubles = []
        success, observed, engine = ours.success, ours.observed, judge.engine
        if self._known(rule):
            compared = self._asked(rule, ours, whole)
            theirs = compared.theirs
            if isinstance(theirs, Refusal) and compared.outcome == "refused":
                troubles.append(Trouble(NO_VERDICT, self._refused(rule, theirs)))
            elif isinstance(theirs, SetVerdict):
                engine = "gx"
                if compared.outcome == "differs":
                    success = theirs.success
                    said = f"{judge.engine} says {_word(not ours.success)}, Great Expectations {_word(not theirs.success)}"
                    troubles.append(Trouble(DISAGREEMENT, f"the engines do not agree on {rule.id}: {said}", count=1))
        shown = MASKED if self._sensitive(rule) and observed is not None and not isinstance(observed, bool) else observed
        if not success:
            said = "" if shown is None else f"; observed {str(shown)[:_LONGEST]}"
            troubles.append(Trouble(RULE, f"the rule {rule.id} does not hold on {whole.rows} rows: {rule.says}{said}", count=1))
        return Finding(rule, "passes" if success else "fails", engine, whole.rows, observed=shown, troubles=troubles)

    def _rows(
        self,
        rule: Rule,
        judge: RowJudge | SetJudge,
        frame: Frame,
        rows: ChangeBatch,
        gate: Mask | None,
        told: Mask | None,
        places: npt.NDArray[np.int64] | None = None,
    ) -> Finding:
        """One rule over rows. `places` are the rows' indices in the batch that was asked about."""
        skipped = frame.skipped(rule.columns) if rule.kind != "type" else None
        index = np.arange(frame.rows) if skipped is None else np.flatnonzero(~skipped)
        whole = frame if skipped is None else frame.where(~skipped)
        try:
            ours = judge.judge(whole)
        except SluiceError as error:
            return Finding(rule, "none", judge.engine, whole.rows, troubles=[Trouble(NO_VERDICT, self._hidden(rule, error.message))])
        if not isinstance(ours, RowVerdict):
            return Finding(rule, "none", judge.engine, whole.rows)
        theirs: Mask | None = None
        troubles: list[Trouble] = []
        contested = np.zeros(len(index), np.bool_)
        if self._known(rule) and whole.rows:
            compared = self._asked(rule, ours, whole)
            answer = compared.theirs
            if isinstance(answer, Refusal):
                if compared.outcome == "refused":
                    troubles.append(Trouble(NO_VERDICT, self._refused(rule, answer)))
            elif isinstance(answer, SetVerdict):
                theirs = np.full(len(index), not answer.success)
                contested = np.full(len(index), compared.outcome == "differs")
            else:
                if compared.outcome == "differs" and compared.rows is not None:
                    contested = compared.rows
                theirs = ours.failed ^ contested
        meant = meant_for(rule, rows)[index]
        by_gate = None if gate is None else gate[index]
        let = np.zeros(len(index), np.bool_)
        if by_gate is not None and told is not None and rule.action in HOLDS_BACK:
            let = told[index] & ~contested & (by_gate != (ours.failed & meant))

        def shown(which: Mask) -> list[Contested]:
            return [
                Contested(
                    int(index[row] if places is None else places[index[row]]),
                    None if by_gate is None else _word(by_gate[row]),
                    _word(ours.failed[row]),
                    None if theirs is None else _word(theirs[row]),
                )
                for row in np.flatnonzero(which)[:_ROWS_TOLD]
            ]

        if contested.any():
            count = int(np.count_nonzero(contested))
            said = f"the engines do not agree on {rule.id} for {count} of {len(index)} rows"
            troubles.append(Trouble(DISAGREEMENT, said, shown(contested), count))
        if let.any():
            count = int(np.count_nonzero(let))
            said = f"the gate has not judged {count} of {len(index)} rows by {rule.id} as they are judged now"
            troubles.append(Trouble(GATE, said, shown(let), count))
        unknown = theirs is None and self._known(rule) and whole.rows > 0
        verdict: Verdict = "differs" if contested.any() or let.any() else "none" if unknown else "agrees"
        engine = "gx" if theirs is not None else judge.engine
        return Finding(rule, verdict, engine, len(index), int(np.count_nonzero(ours.failed)), troubles=troubles)

    def _sensitive(self, rule: Rule) -> bool:
        if rule.kind == "sql" and not rule.columns:  # a SELECT, which can read any
            return self.contract.sensitive
        return any(name in self.contract.columns and self.contract.columns[name].sensitive for name in rule.columns)

    def _hidden(self, rule: Rule, message: str) -> str:
        return f"the rule {rule.id} cannot be judged" + ("" if self._sensitive(rule) else f": {message}")

    def _refused(self, rule: Rule, refusal: Refusal) -> str:
        said = "" if self._sensitive(rule) else f": {refusal.message[:500]}"
        return f"Great Expectations gives no verdict on {rule.id}{said}"


def undecodable(rows: ChangeBatch) -> dict[str, Mask]:
    """Column -> bool[n] of the values that could not be held as text."""
    found: dict[str, Mask] = {}
    for defect in rows.defects:
        if defect.column is not None:
            found.setdefault(defect.column, np.zeros(len(rows), np.bool_))[defect.row] = True
    return found


def meant_for(rule: Rule, rows: ChangeBatch) -> Mask:
    """bool[n] of the rows whose operation the rule is meant for; they were written."""
    if len(rule.on) > 1:
        return np.ones(len(rows), np.bool_)
    return np.isin(rows.op, _INSERTS) if "insert" in rule.on else np.asarray(rows.op == Op.UPDATE)


def _word(failed: bool) -> str:
    return "fails" if failed else "passes"
