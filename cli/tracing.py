"""The answer of `trace`: what is known of a record, with what the contract calls confidential or restricted masked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cli.records import Masks, moment
from dataflows.build import contract_of, dataset_name, declared_schema
from dataflows.contracts_in_force import in_force
from dataflows.holding import holdings
from dataflows.lookup_query import read_enrichment
from dataflows.tracing import Gone, TracedChange, Tracer, has_run
from journal.quarantine import QuarantineRecord
from journal.trace_context import LENGTH
from pipeline.errors import ConfigError
from pipeline.model import Dataset, Pipeline
from pipeline.names import is_pattern, nearest

if TYPE_CHECKING:
    from dataflows.at_sinks import AtSink
    from quality.contract import Contract

Answer = dict[str, Any]


def traced(pipeline: Pipeline, dataset: str, given: Sequence[str], last: int | None) -> Answer:
    """The answer of `trace --json`. Raises ConfigError for a dataset that there is not, and for a key that is not its own."""
    if not has_run(pipeline):
        _check_dataset(dataset, _named(pipeline))
        declared = pipeline.datasets.get(dataset)
        schema = None if declared is None else declared_schema(declared)
        columns = (declared.key if declared is not None else ()) or (schema.key if schema is not None else ())
        return _Answer(pipeline, dataset, key_of(dataset, columns or None, given)).nothing()
    with closing(Tracer(pipeline)) as tracer:
        _check_dataset(dataset, _named(pipeline) | tracer.datasets())
        known = tracer.following.schema(dataset)
        key = key_of(dataset, None if known is None else known.key, given)
        answer = _Answer(pipeline, dataset, key)
        if known is None:
            return answer.nothing()
        return answer.of(tracer, last)


def _named(pipeline: Pipeline) -> frozenset[str]:
    """The datasets that the pipeline file names."""
    tables = [(name, table) for name, block in pipeline.sources.items() for table in _tables(block.config)]
    return frozenset([*pipeline.datasets, *(dataset_name(pipeline, source, table) for source, table in tables)])


def _tables(config: Any) -> list[str]:
    return [table for table in getattr(config, "tables", ()) if not is_pattern(table)]


def _check_dataset(dataset: str, known: frozenset[str]) -> None:
    if dataset not in known:
        names = ", ".join(sorted(known)) or "none yet"
        raise ConfigError(f"there is no dataset {dataset!r}: there are {names}", hint=nearest(dataset, sorted(known)))


def key_of(dataset: str, columns: Sequence[str] | None, given: Sequence[str]) -> dict[str, str]:
    """Column -> value, in the key's order (None: which columns that are is not known). Raises ConfigError.

    One column: the value alone, or COLUMN=VALUE with the column's own name. Several: COLUMN=VALUE for each. Rows without a key are found
    by any columns, each by its name.
    """
    parts = [one.partition("=") for one in given]
    if columns is None or not columns:
        if columns is None and len(given) == 1 and not parts[0][1]:
            return {"key": given[0]}
        if not all(sign for _, sign, _ in parts):
            raise ConfigError(f"the dataset {dataset} has no key", hint="say which rows by their columns: --key COLUMN=VALUE")
        return {name: value for name, _, value in parts}
    if len(columns) == 1:
        (name,) = columns
        if len(given) == 1:
            return {name: parts[0][2] if parts[0][:2] == (name, "=") else given[0]}
    found = {name: value for name, sign, value in parts if sign}
    if len(found) != len(given) or found.keys() != set(columns):
        example = " ".join(f"--key {name}=VALUE" for name in columns)
        raise ConfigError(f"the key of {dataset} is {', '.join(columns)}", hint=f"write {example}")
    return {name: found[name] for name in columns}


def _contract(dataset: Dataset | None) -> Contract | None:
    """The contract as it is now; None where it cannot be read, which `check` tells, and for which all values are masked."""
    try:
        return None if dataset is None or dataset.contract is None else contract_of(dataset)
    except ConfigError:
        return None


def _lookups(pipeline: Pipeline, dataset: Dataset | None) -> list[str]:
    """The lookups that a dataset is joined with, as far as its SQL can be read."""
    if dataset is None or dataset.enrich is None:
        return []
    try:
        joins = read_enrichment(dataset.enrich, {name: lookup.key for name, lookup in pipeline.lookups.items()}).joins
    except ConfigError:
        return []
    return sorted({join.lookup for join in joins})


class _Answer:
    def __init__(self, pipeline: Pipeline, dataset: str, key: Mapping[str, str]) -> None:
        self._pipeline = pipeline
        self._dataset = dataset
        self._key = key
        self._masks = Masks(pipeline)
        self._contract = _contract(in_force(pipeline).datasets.get(dataset))
        self._lookups = _lookups(pipeline, pipeline.datasets.get(dataset))

    def nothing(self) -> Answer:
        return {
            "pipeline": self._pipeline.name, "dataset": self._dataset, "key": self._hidden(self._key), "known": False, "changes": [],
            "gone": None,
        }  # fmt: skip

    def of(self, tracer: Tracer, last: int | None) -> Answer:
        changes = tracer.changes(self._dataset, self._key, last)
        gone = tracer.gone(self._dataset)
        told = None if gone is None else self._gone(tracer, gone, alone=not changes)
        held = any(one["row"] for one in told["sinks"].values()) if told is not None else False
        return {**self.nothing(), "known": bool(changes) or held, "changes": [self._change(one) for one in changes], "gone": told}

    def _hidden(self, values: Mapping[str, str | bytes | None] | None) -> Answer | None:
        return None if values is None else self._masks.row(self._dataset, values)

    def _change(self, one: TracedChange) -> Answer:
        context = one.context
        return {
            "state": one.state,
            "ordinal": one.ordinal,
            "operation": one.operation,
            "key": self._hidden(one.key),
            "old_key": self._hidden(one.old_key),
            "trace_id": one.trace_id,
            "traceparent": context[:LENGTH] if context else None,
            "tracestate": (context[LENGTH + 1 :] or None) if context else None,
            "source": {
                "name": one.source,
                "table": one.table,
                "position": json.loads(one.position) if one.position.startswith("{") else one.position,
                "committed_at": moment(one.committed_at / 1e6),
            },
            "received_at": moment(one.received_at),
            "judged": self._judged(one),
            "row": self._masked(one, one.row),
            "before": self._masked(one, one.before),
            "sinks": {name: self._sink(found) for name, found in one.sinks.items()},
        }

    def _masked(self, one: TracedChange, values: Mapping[str, str | bytes | None] | None) -> Answer | None:
        if one.record is not None or values is None:
            return None if one.record is None else self._masks(one.record, values)
        return self._masks.row(self._dataset, values, given=one.state == "held")

    def _judged(self, one: TracedChange) -> Answer:
        contract, noted = self._contract, one.judged
        same = contract is not None and (noted is None or noted.fingerprint == contract.fingerprint)
        dataset = self._pipeline.datasets.get(self._dataset)
        feed = next((feed for feed in dataset.feeds if (feed.source, feed.table) == (one.source, one.table)), None) if dataset else None
        record = one.record
        return {
            "contract": noted.contract if noted is not None else contract.id if contract is not None else None,
            "version": noted.version if noted is not None else contract.version if contract is not None else None,
            "noted": noted is not None,
            "rules": [rule.id for rule in contract.rules] if contract is not None and same else None,
            "map": None if feed is None or feed.map is None else self._named(feed.map),
            "enrich": None if dataset is None or dataset.enrich is None else self._named(dataset.enrich),
            "lookups": self._lookups,
            "quarantine": None if record is None else self._held(record),
        }

    def _held(self, record: QuarantineRecord) -> Answer:
        reasons = [msgspec.structs.asdict(reason) for reason in self._masks.reasons(record)]
        return {"id": record.id, "status": record.status, "reasons": reasons}

    def _named(self, what: Path | str) -> str:
        """A file by its path from the pipeline file's folder, a function by its name."""
        folder = self._pipeline.file.parent
        return str(what.relative_to(folder) if isinstance(what, Path) and what.is_relative_to(folder) else what)

    def _sink(self, found: AtSink) -> Answer:
        record = found.record
        return {
            "status": found.status,
            "after": moment(found.after),
            "by": moment(found.by),
            "why": found.why,
            "quarantine": None if record is None else {"id": record.id, "status": record.status},
        }

    def _made(self, tracer: Tracer, position: int, source: str | None) -> str | None:
        """The id of a change that is gone, where it cannot have come with one."""
        block = None if source is None else self._pipeline.sources.get(source)
        return None if block is None or block.type == "kafka" else tracer.traces.id(position)

    def _gone(self, tracer: Tracer, gone: Gone, *, alone: bool) -> Answer:
        """`alone`: the journal has nothing left of the key, so the sinks are asked whether they have it."""
        schema = tracer.following.schema(self._dataset)
        held = holdings(self._pipeline, schema, self._key) if alone and schema is not None and schema.key else {}
        sinks: dict[str, Answer] = {}
        for name, found in gone.sinks.items():
            sinks[name] = self._sink(found) | {"row": None, "position": None, "trace_id": None, "counted": None}
            if name not in held:
                continue
            one = held[name]
            sinks[name] |= {"row": one.held, "position": one.position, "why": one.why or found.why}
            if one.position is not None:
                counted = tracer.following.counted(self._dataset, one.position)
                sinks[name]["trace_id"] = self._made(tracer, one.position, None if counted is None else counted.source)
                sinks[name] |= {"by": moment(tracer.sinks.by_ordinal(name, one.position)), "after": None}
                sinks[name]["counted"] = None if counted is None else {
                    "source": counted.source,
                    "received_from": moment(counted.start),
                    "committed_from": None if counted.times is None else moment(counted.times[0] / 1e6),
                    "committed_to": None if counted.times is None else moment(counted.times[1] / 1e6),
                }  # fmt: skip
        return {"entries": gone.seq, "before": gone.ordinal, "sinks": sinks}
