"""Which contract judges a dataset: the one in its file, unless that breaks what others rely on and nobody has approved it.

The journal keeps the text of the one in force. What judges, masks, compares or reports reads that, whatever stands in the file meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from journal import contracts as kept_contracts
from journal import store
from journal.contracts import KeptContract
from journal.local import JournalReader, JournalWriter
from pipeline.errors import ConfigError
from pipeline.model import Dataset, Pipeline

if TYPE_CHECKING:
    from quality.contract import Contract
    from quality.contract_diff import ContractDiff

log = structlog.get_logger("sluice.contract")


@dataclass(frozen=True, slots=True)
class ContractStanding:
    """How the contract in a dataset's file stands to the one in force.

    kept     the one in force; None before the first start
    written  the one in the file; None where it is not sound, which `problem` tells, or says the same
    diff     from the one in force to the one in the file, where they differ and both are sound
    """

    kept: KeptContract | None
    written: Contract | None = None
    diff: ContractDiff | None = None
    problem: ConfigError | None = None

    @property
    def pending(self) -> bool:
        """Whether the file's waits: for somebody who mends it, or approves it."""
        return self.problem is not None or (self.diff is not None and bool(self.diff.breaking))

    @property
    def news(self) -> bool:
        """Whether the file's comes into force with the next start."""
        return self.written is not None and not self.pending

    def answer(self) -> dict[str, Any]:
        """As `status --json` has it."""
        kept, diff = self.kept, self.diff
        force = None if kept is None else {name: getattr(kept, name) for name in ("id", "version", "fingerprint", "since", "at", "by")}
        pending: dict[str, Any] | None = None
        if self.problem is not None:
            pending = {"version": None, "error": str(self.problem), "breaking": []}
        elif self.written is not None:
            breaking = [f"{one.subject}: {one.says}" for one in diff.breaking] if diff is not None else []
            pending = {"version": self.written.version, "error": None, "breaking": breaking}
        version = self.written.version if self.written is not None else kept.version if kept is not None and self.problem is None else None
        return {"version": version, "in_force": force, "pending": pending}


def in_force(pipeline: Pipeline) -> Pipeline:
    """The pipeline with the contracts that are in force, where the journal has any: those say what is so, the files what is to be.

    Raises JournalError for a journal that cannot be read.
    """
    return _with_texts(pipeline, kept_of(pipeline))


def kept_of(pipeline: Pipeline, *, all_datasets: bool = False) -> Mapping[str, KeptContract]:
    """The contracts in force, by dataset; empty before the first start. With `all_datasets` those, too, of datasets that had one once."""
    if not all_datasets and all(one.contract is None for one in pipeline.datasets.values()):
        return {}
    if not store.journal_exists(pipeline.state):
        return {}
    with JournalReader.open(pipeline.state, pipeline.name) as reader, reader.view() as (db, _):
        return kept_contracts.in_force(db)


def put_in_force(pipeline: Pipeline, journal: JournalWriter) -> Pipeline:
    """The same for the process that writes the journal: what is new and breaks nothing comes into force, from the next change on.

    Raises ConfigError for a first contract that is not sound, and for one in force that this version cannot judge any more.
    """
    with journal.view() as db:
        kept = kept_contracts.in_force(db)
    found = dict(kept)
    news: list[str] = []
    for name, dataset in pipeline.datasets.items():
        if dataset.contract is None:
            continue
        standing = standing_of(dataset, kept.get(name))
        if standing.kept is None and standing.problem is not None:
            raise standing.problem
        if standing.written is not None and not standing.pending:
            with journal.changing() as db:
                kept_contracts.put(db, name, told(standing.written), standing.written.text, journal.next_ordinal)
                found[name] = kept_contracts.in_force(db)[name]
            news.append(name)
            if standing.kept is not None:
                log.info("contract changed", dataset=name, was=standing.kept.version, version=standing.written.version)
        elif standing.kept is not None and standing.pending:
            _warn(pipeline, name, standing)
    if news:
        journal.commit_beside()
    return _with_texts(pipeline, found)


def coming_into_force(pipeline: Pipeline) -> Pipeline:
    """The same for a process that starts together with the one that writes the journal, and may see it before that has put anything in
    force: as `put_in_force` decides. Raises as that does."""
    kept = kept_of(pipeline)
    found = _with_texts(pipeline, kept)
    datasets = dict(found.datasets)
    for name, dataset in pipeline.datasets.items():
        standing = None if dataset.contract is None else standing_of(dataset, kept.get(name))
        if standing is not None and standing.written is not None and not standing.pending and dataset.contract is not None:
            datasets[name] = replace(dataset, in_force=(dataset.contract, standing.written.text))
    return replace(found, datasets=datasets)


def standing_of(dataset: Dataset, kept: KeptContract | None) -> ContractStanding:
    """Raises ConfigError for a contract in force that this version cannot judge any more."""
    assert dataset.contract is not None  # noqa: S101  (only datasets with a contract are asked about)
    if kept is not None and text_of(dataset.contract) == kept.text:
        return ContractStanding(kept)
    from quality.contract_diff import compare
    from quality.contract_reading import load_contract

    try:
        written = load_contract(dataset.contract)
    except ConfigError as error:
        return ContractStanding(kept, problem=error)
    if kept is None or written.text == kept.text:
        return ContractStanding(kept, None if kept is not None else written)
    try:
        before = load_contract(shown_as(dataset.contract, kept), kept.text)
    except ConfigError as error:
        said = f"the contract {kept.version} that is in force for `{dataset.name}` cannot be judged by this version: {error.message}"
        raise ConfigError(said, hint=f"`sluice contract approve PIPELINE {dataset.name} --by NAME` puts the file's in force") from error
    return ContractStanding(kept, written, compare(before, written))


def pending_notes(pipeline: Pipeline) -> list[str]:
    """What people should know of contracts that are written otherwise than they are in force."""
    notes = []
    for name, kept in kept_of(pipeline).items():
        dataset = pipeline.datasets.get(name)
        if dataset is None or dataset.contract is None:
            continue
        try:
            standing = standing_of(dataset, kept)
        except ConfigError as error:
            notes.append(str(error))
            continue
        if standing.problem is not None:
            notes.append(f"{name}: the contract in the file is not sound, so {kept.version}, which is in force, judges")
        elif standing.diff is not None and standing.pending:
            said = "; ".join(f"{one.subject}: {one.says}" for one in standing.diff.breaking)
            way = f"`sluice contract approve {pipeline.file} {name} --by NAME` puts it in force"
            notes.append(
                f"{name}: the contract breaks what others rely on, and waits for approval ({said}); {way}, until then {kept.version} judges"
            )
        elif standing.written is not None:
            notes.append(
                f"{name}: the contract {standing.written.version} comes into force with the next start; until then {kept.version} judges"
            )
    return notes


def told(contract: Contract) -> tuple[str, str, str]:
    """What tells a contract from others: id, version, fingerprint."""
    return contract.id, contract.version, contract.fingerprint


def shown_as(file: Path, kept: KeptContract) -> Path:
    """What messages call the text in force, which stands in no file any more."""
    return file.with_name(f"{file.name}@{kept.version}")


def _with_texts(pipeline: Pipeline, kept: Mapping[str, KeptContract]) -> Pipeline:
    datasets: dict[str, Dataset] = {}
    for name, dataset in pipeline.datasets.items():
        found, text = kept.get(name), None
        if dataset.contract is not None and found is not None:  # the text even where the file says the same: it may not a moment later
            same = text_of(dataset.contract) == found.text
            text = dataset.contract if same else shown_as(dataset.contract, found), found.text
        datasets[name] = replace(dataset, in_force=text)
    return replace(pipeline, datasets=datasets)


def text_of(file: Path) -> str | None:
    """A contract's file as it is; None where it is no text, or not there."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError):
        return None


def _warn(pipeline: Pipeline, name: str, standing: ContractStanding) -> None:
    kept = standing.kept.version if standing.kept is not None else None
    if standing.problem is not None:
        log.warning("contract is not sound, the former one judges", dataset=name, in_force=kept, error=str(standing.problem))
    elif standing.diff is not None and standing.written is not None:
        breaking = [f"{one.subject}: {one.says}" for one in standing.diff.breaking]
        hint = f"`sluice contract approve {pipeline.file} {name} --by NAME` puts it in force"
        log.warning(
            "contract waits for approval", dataset=name, in_force=kept, version=standing.written.version, breaking=breaking, hint=hint
        )
