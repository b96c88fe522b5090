"""What a report says of a contract that is written otherwise than it is in force."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from dataflows.contracts_in_force import ContractStanding, standing_of
from journal.contracts import KeptContract
from pipeline.errors import ConfigError
from pipeline.model import Pipeline
from quality.report.model import Pending, Step

_MOST = 20


@dataclass(frozen=True, slots=True)
class Written:
    """How the contract in a dataset's file differs from the one in force: who is waited for, and its version."""

    pending: Pending | None = None
    version: str | None = None


def written_of(pipeline: Pipeline, dataset: str, kept: KeptContract | None) -> Written:
    """Nothing where the file says what is in force, or nothing has run yet."""
    block = pipeline.datasets.get(dataset)
    if block is None or block.contract is None or kept is None:
        return Written()
    try:
        standing = standing_of(block, kept)
    except ConfigError as error:  # this version cannot judge by the one in force any more
        return Written(Pending(str(error), None, [_approve(pipeline, dataset)]))
    contract = standing.written
    return Written(_pending(pipeline, dataset, kept, standing), None if contract is None else contract.version)


def _pending(pipeline: Pipeline, dataset: str, kept: KeptContract, standing: ContractStanding) -> Pending | None:
    if standing.problem is not None:
        says = f"The contract in the file is not sound, so {kept.version} goes on to judge"
        file = str(pipeline.datasets[dataset].contract)
        problems = [problem.message for problem in standing.problem.problems] or [str(standing.problem)]
        return Pending(says, None, [Step("See what is wrong with it", f"sluice check {shlex.quote(file)}")], problems[:_MOST])
    if standing.pending and standing.diff is not None and standing.written is not None:
        says = (
            f"The contract {standing.written.version} breaks what others rely on, and waits for approval; until then {kept.version} judges"
        )
        details = [f"{one.subject}: {one.says}" for one in standing.diff.breaking]
        return Pending(says, None, [*_trials(pipeline, dataset), _approve(pipeline, dataset)], details[:_MOST])
    return None


def _trials(pipeline: Pipeline, dataset: str) -> list[Step]:
    file, name = shlex.quote(str(pipeline.file)), shlex.quote(dataset)
    return [
        Step("See what it would hold back", f"sluice check {file} --against journal --dataset {name}"),
        Step("See what it would let go", f"sluice quarantine backtest {file} --dataset {name}"),
    ]


def _approve(pipeline: Pipeline, dataset: str) -> Step:
    command = f'sluice contract approve {shlex.quote(str(pipeline.file))} {shlex.quote(dataset)} --by "$USER"'
    return Step("Put it in force", command)
