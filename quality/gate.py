"""The gate: judges every row of a batch of changes by its dataset's contract, whole columns at a time.

Only rows that break a rule become Python objects. Deletes and truncates are not judged; a rule does not run for a row in which
the log did not carry a column that it reads, nor on an operation that it is not meant for. Rules over the whole set are not the
gate's. Rules that compare a row with the others of its batch see every row as it stands at the end of the batch: of several
changes of one key the last. Rules that compare a change with the one before it are asked last: what breaks another rule is no step.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from journal.batch import ChangeBatch, Op
from journal.quarantine import Reason
from journal.schema import TableSchema
from pipeline.errors import ConfigError, Problem, SluiceError
from pipeline.names import nearest
from quality.batch_frame import FrameOfBatch
from quality.breaker import BreakerState
from quality.chains import ChainRules, Memory
from quality.contract import Contract
from quality.frame import Frame
from quality.judgement import BREAKER, MASKED, UNDECODABLE, Failure, Judgement, QuarantinedRow, Tried
from quality.kernels.verdict import RowVerdict
from quality.latest import latest_of_each_key
from quality.logical_types import Judged
from quality.references import Lookups, References
from quality.rules import Action, Judge, RowJudge, Rule, RuleError, Scope
from quality.sql_rules import ExplainedVerdict
from quality.step import StepJudge

Mask = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]


def _ops(*wanted: Op) -> Mask:
    """bool[256]: by the letter of an operation, whether it is one of these."""
    found = np.zeros(256, np.bool_)
    found[list(wanted)] = True
    return found


_JUDGED = _ops(Op.INSERT, Op.READ, Op.UPDATE)
_MEANT = {frozenset({"insert"}): _ops(Op.INSERT, Op.READ), frozenset({"update"}): _ops(Op.UPDATE)}


class Gate:
    """A contract's rules over rows, bound to the columns of a table as it is now. A changed table needs a new gate."""

    def __init__(self, contract: Contract, schema: TableSchema, memory: Memory | None = None, lookups: Lookups | None = None) -> None:
        """Raises ConfigError, with the contract's lines, for what the table's columns do not let it judge.

        Without a `memory` no change is compared with an earlier one, without `lookups` nothing is looked for in one: for who asks what
        rows are worth as they are, wherever they came from.
        """
        self.contract = contract
        self.schema = schema
        bound = bound_rules(contract, schema, lookups)
        self._bound = [(rule, judge) for rule, judge in bound if not isinstance(judge, StepJudge)]
        steps = [(rule, judge) for rule, judge in bound if isinstance(judge, StepJudge)]
        wanted = dict.fromkeys(name for _, judge in self._bound for name in judge.columns)
        types = _types(contract, schema)
        self._frames = FrameOfBatch(contract, types, wanted)
        self._steps = [rule for rule, _ in steps]
        self._chains: ChainRules | None = None
        if steps and memory is not None:
            stepping = dict.fromkeys(name for _, judge in steps for name in judge.columns)
            self._chains = ChainRules(steps, FrameOfBatch(contract, types, stepping), memory)
        self._breaker = BreakerState(contract.breaker) if contract.breaker else None

    @property
    def over_steps(self) -> frozenset[str]:
        """The rules that compare a change with the one before it, by their ids."""
        return frozenset(rule.id for rule in self._steps)

    def judge(self, batch: ChangeBatch) -> Judgement:
        """The verdict on a batch under the gate's schema."""
        found = self._asked(batch)
        return _stopped(batch, found) if isinstance(found, Failure) else self._sorted(batch, found)

    def tried(self, batch: ChangeBatch) -> Tried:
        """Which rows break which rule, whatever that would make of them. Raises ConfigError for a rule that cannot be judged."""
        found = self._asked(batch)
        if isinstance(found, Failure):
            raise ConfigError(found.message)
        broken = {rule.id: found.places[failed] for rule, failed, _ in found.broken}
        if batch.defects:
            broken[UNDECODABLE] = np.unique(np.array([defect.row for defect in batch.defects], np.int64))
        return Tried(broken, found.unknown)

    def _asked(self, batch: ChangeBatch) -> _Asked | Failure:
        """Asks every rule of every row that it is for."""
        void = _void(batch)
        asked = np.flatnonzero(_JUDGED[batch.op] & ~void if void.any() else _JUDGED[batch.op])
        rows = batch if len(asked) == len(batch) else batch.take(asked)
        broken: list[tuple[Rule, Longs, RowVerdict]] = []
        if len(rows) and self._bound:
            frame = self._frames.frame(rows, _undecodable(rows))
            among = _Among(batch, asked)
            for rule, judge in self._bound:
                try:
                    verdict, failed = self._verdict(rule, judge, frame, rows, among)
                except SluiceError as error:
                    return Failure(rule.id, int(asked[0]), 0, f"rule {rule.id} cannot be judged: {error.message}")
                if len(failed):
                    broken.append((rule, failed, verdict))
        found = _Asked(rows, asked, broken, int(np.count_nonzero(void)))
        if len(rows) and self._chains is not None and batch.sink is None:
            self._stepped(self._chains, batch, found)
        return found

    def _verdict(self, rule: Rule, judge: RowJudge, frame: Frame, rows: ChangeBatch, among: _Among) -> tuple[RowVerdict, Longs]:
        """The verdict, and the indices in `rows` of those that failed."""
        meant = _MEANT[rule.on][rows.op] if rule.on in _MEANT else None
        if rule.scope is Scope.BATCH:
            kept = among.latest if meant is None else among.latest & meant
            verdict = judge.judge(frame if kept.all() else frame.where(kept))
            return verdict, np.flatnonzero(kept)[verdict.failed]
        verdict = judge.judge(frame)
        return verdict, np.flatnonzero(verdict.failed if meant is None else verdict.failed & meant)

    def _stepped(self, chains: ChainRules, batch: ChangeBatch, found: _Asked) -> None:
        """Adds what breaks the rules over steps to what is broken already."""
        asked = found.places
        judged, held = np.zeros(len(batch), np.bool_), np.zeros(len(batch), np.bool_)
        judged[asked] = True
        held[[defect.row for defect in batch.defects]] = True
        for rule, failed, _ in found.broken:
            if rule.action is not Action.WARN:
                held[asked[failed]] = True
        meant = [judged & _MEANT[rule.on][batch.op] if rule.on in _MEANT else judged for rule in self._steps]
        for rule, verdict, unknown in chains.broken(batch, meant, held):
            failed = np.flatnonzero(verdict.failed)
            if unknown.any():
                found.unknown[rule.id] = np.flatnonzero(unknown)
            if len(failed):
                clear = not any(name in self.contract.columns and self.contract.columns[name].sensitive for name in rule.columns)
                said = {int(np.searchsorted(asked, row)): text for row, text in verdict.messages.items()} if clear else {}
                found.broken.append((rule, np.searchsorted(asked, failed), replace(verdict, messages=said)))

    def _sorted(self, batch: ChangeBatch, found: _Asked) -> Judgement:
        """Each row that broke something to where the strongest of its rules sends it: quarantine before drop before warn."""
        rows, asked, broken, void = found.rows, found.places, found.broken, found.void
        reasons: dict[int, list[Reason]] = {}
        warnings: Counter[str] = Counter()
        for rule, failed, verdict in broken:
            if rule.action is Action.FAIL:
                said = f"{len(failed)} row(s) break the rule {rule.id}: {rule.says}"
                return _stopped(batch, Failure(rule.id, int(asked[failed[0]]), len(failed), said))
            if rule.action is Action.QUARANTINE:
                for row, reason in zip(failed, self._reasons(rule, rows, failed, verdict), strict=True):
                    reasons.setdefault(int(asked[row]), []).append(reason)
        alert = self._breaker.count(len(rows) + void, len(reasons) + void) if self._breaker is not None else None
        if alert is not None and self._breaker is not None:
            if self._breaker.action == "pause":
                return _stopped(batch, Failure(BREAKER, min(reasons, default=0), len(reasons), alert))
            warnings.update(reason.rule for found in reasons.values() for reason in found)
            reasons = {}
        self._defects(batch, reasons)
        passed = np.ones(len(batch), np.bool_)
        passed[list(reasons)] = False
        dropped: dict[str, Longs] = {}
        for rule, failed, _ in broken:
            if rule.action is Action.DROP:
                gone = asked[failed]
                gone = gone[passed[gone]]
                passed[gone] = False
                if len(gone):
                    dropped[rule.id] = gone
        for rule, failed, _ in broken:
            if rule.action is Action.WARN and (count := int(np.count_nonzero(passed[asked[failed]]))):
                warnings[rule.id] = count
        quarantined = tuple(QuarantinedRow(row, tuple(reasons[row])) for row in sorted(reasons))
        return Judgement(passed, quarantined, dropped, warnings, judged=len(rows), alert=alert)

    def _reasons(self, rule: Rule, rows: ChangeBatch, failed: Longs, verdict: RowVerdict) -> list[Reason]:
        index = pa.array(failed)
        shown = (rule.column,) if rule.column else rule.columns
        hidden = self.contract.hidden
        texts = {name: rows.column(name).take(index).to_pylist() for name in shown if name in rows.schema.types}
        messages: Mapping[int, str] = verdict.messages if isinstance(verdict, ExplainedVerdict) else {}
        found: list[Reason] = []
        for place, row in enumerate(failed):
            values = {name: MASKED if name in hidden and column[place] is not None else column[place] for name, column in texts.items()}
            one = next(iter(values.values()), None) if len(values) < 2 else json.dumps(values, ensure_ascii=False)
            message = f"{rule.says} ({messages[int(row)]})" if int(row) in messages else rule.says
            found.append(Reason(rule.id, rule.column, message, one))
        return found

    def _defects(self, batch: ChangeBatch, reasons: dict[int, list[Reason]]) -> None:
        """Puts values that are no text before what else is wrong with their rows."""
        hidden = self.contract.hidden
        for defect in batch.defects:
            # bytes that are no column's may hold any of them
            hides = bool(hidden) if defect.column is None else defect.column in hidden
            message, value = (defect.unquoted, MASKED) if hides else (defect.message, defect.shown)
            reasons.setdefault(defect.row, []).insert(0, Reason(UNDECODABLE, defect.column, message, value))


@dataclass(slots=True, eq=False)
class _Asked:
    """What rules say of the `rows` of a batch that are judged; `places` are their indices in it.

    `broken` names rows by their place among these, `unknown` by that in the batch; `void` counts rows of which nothing could be read.
    """

    rows: ChangeBatch
    places: Longs
    broken: list[tuple[Rule, Longs, RowVerdict]]
    void: int
    unknown: dict[str, Longs] = field(default_factory=dict)


class _Among:
    """Which of the rows that are judged are the last of their key in the batch; found out when it is first asked for."""

    def __init__(self, batch: ChangeBatch, asked: Longs) -> None:
        self._batch = batch
        self._asked = asked
        self._latest: Mask | None = None

    @property
    def latest(self) -> Mask:
        if self._latest is None:
            self._latest = latest_of_each_key(self._batch)[self._asked]
        return self._latest


def _stopped(batch: ChangeBatch, failure: Failure) -> Judgement:
    return Judgement(np.zeros(len(batch), np.bool_), failure=failure)


def _void(batch: ChangeBatch) -> Mask:
    """bool[n] of the rows of which nothing could be read: that they hold no value breaks no rule."""
    found = np.zeros(len(batch), np.bool_)
    found[[defect.row for defect in batch.defects if defect.column is None]] = True
    rows = np.flatnonzero(found)
    if len(rows):
        index = pa.array(rows)
        for column in batch.columns:
            found[rows] &= np.asarray(column.take(index).is_null())
    return found


def _undecodable(rows: ChangeBatch) -> dict[str, Mask]:
    """Column -> bool[n] of the values that could not be held as text."""
    found: dict[str, Mask] = {}
    for defect in rows.defects:
        if defect.column is not None:
            found.setdefault(defect.column, np.zeros(len(rows), np.bool_))[defect.row] = True
    return found


def bound_rules(contract: Contract, schema: TableSchema, lookups: Lookups | None = None) -> list[tuple[Rule, RowJudge | StepJudge]]:
    """The rules that can fail on this table, with what judges them. Raises ConfigError with every reason why one cannot be judged.

    Rules that look for values in a lookup are among them where there are `lookups`.
    """
    problems = _missing_columns(contract, schema)
    types = _types(contract, schema)
    for name, prop in contract.columns.items():
        if name in schema.types and name not in types:
            said = f"{name} is {schema.types[name]} in the table {schema.dataset}, and {prop.logical_type} in the contract"
            problems.append(Problem(said, contract.file, prop.line))
    found: list[tuple[Rule, RowJudge | StepJudge]] = []
    for rule in contract.rules:
        if rule.scope is Scope.SET or any(name not in types for name in rule.columns):
            continue
        try:
            judge = _ready(rule, rule.compile(types), schema, lookups)
        except SluiceError as error:
            problems.append(Problem(f"rule {rule.id}: {error.message}", contract.file, rule.line, error.hint))
            continue
        if judge is not None and not _always_holds(rule, types, schema):
            found.append((rule, judge))
    if problems:
        raise ConfigError.of(sorted(problems, key=lambda problem: problem.line or 0))
    return found


def _ready(rule: Rule, judge: Judge, schema: TableSchema, lookups: Lookups | None) -> RowJudge | StepJudge | None:
    """What judges a rule over rows in a table; None where it is not asked. Raises RuleError."""
    if isinstance(judge, StepJudge) and not schema.key:
        said = f"it compares a change with the one before it of the same key, and {schema.dataset} has no key"
        raise RuleError(said, hint="give the dataset a `key`")
    if isinstance(judge, References):
        return None if lookups is None else judge.among(lookups)
    return judge  # type: ignore[return-value]  # the scope says that it judges rows


def _types(contract: Contract, schema: TableSchema) -> dict[str, Judged]:
    """Column of the contract -> how its values are held in this table; without those that the table lacks or that do not fit."""
    types: dict[str, Judged] = {}
    for name, kind in schema.types.items():
        if name in contract.columns and (held := contract.columns[name].held(kind)) is not None:
            types[name] = held
    return types


def _missing_columns(contract: Contract, schema: TableSchema) -> list[Problem]:
    """One problem for each column that rules read and the table does not have."""
    lacking: dict[str, list[Rule]] = {}
    for rule in contract.rules:
        for name in rule.columns:
            if name not in schema.types:
                lacking.setdefault(name, []).append(rule)
    problems = []
    for name, rules in lacking.items():
        named = next((rule for rule in rules if not rule.generated), rules[0])
        more = f" (and {len(rules) - 1} more)" if len(rules) > 1 else ""
        said = f"rule {named.id}{more} reads the column {name!r}, which the table {schema.dataset} does not have"
        problems.append(Problem(said, contract.file, named.line, nearest(name, schema.types)))
    return problems


def _always_holds(rule: Rule, types: Mapping[str, Judged], schema: TableSchema) -> bool:
    """Whether Postgres itself sees to it: a typed column holds its type, and a key is the key of one row only."""
    if rule.generated and rule.kind == "type":
        held = types[rule.columns[0]]
        return not held.read and not (held.logical == "integer" and held.family == "number") and held.family != "json"
    unique = rule.kind in ("unique", "primaryKey", "duplicateValues") and rule.scope is Scope.BATCH
    return unique and bool(schema.key) and set(schema.key) <= set(rule.columns)
