"""What a trial says of a history is what ingest made of it, with the contract in force from the beginning."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import dataflows.trial_walk
from dataflows.backtest import outcomes
from dataflows.trial import WORST, Trial
from dataflows.trial_walk import Asks
from journal.local import JournalReader
from pipeline.load import load_pipeline
from quality.contract_reading import load_contract
from quality.rules import Action
from tests.contract_text import write_contract
from tests.history_place import HISTORIES, MESSAGES, RULE_SETS, SCHEMA, Event, RuleSet, Table, contract
from tests.lane_place import Place

OLD = "^[a-zY]*$"
NEW = "^[a-zZ]*$"
_ORDERS = st.sampled_from(["newest", "newest", "strict"])


def _ingested(folder: Path, text: str, table: Table, history: list[list[Event]], partitions: int = 0, again: int = 0) -> Place:
    """A pipeline that was sent a history; `again`: it is closed and opened again so often in between."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, "", contract=text, partitions=partitions)
    for number, events in enumerate(history):
        place.take(*table.send(events))
        if again and number % again == 0:
            place.close()
            place = Place(folder, "", contract=text, partitions=partitions)
    return place


def _tried(place: Place, text: str, last: int) -> tuple[dict[int, str], dict[int, list[str]], dict[str, list[int]]]:
    """By ordinal what becomes of each change that is asked about, and the rules that it breaks; rule -> ordinals that it cannot judge."""
    file = write_contract(place.folder, text, name="next.yaml")
    becomes: dict[int, str] = {}
    rules: dict[int, list[str]] = {}
    unknown: dict[str, list[int]] = {}
    with JournalReader.open(place.folder, "commerce") as reader:
        trial = Trial(load_contract(file), load_pipeline(place.folder / "pipeline.yaml"), "orders", reader)
        for turn, outcome in outcomes(reader, place.pipeline, "orders", trial, Asks(changes=last)):
            asked = turn.kinds == dataflows.trial_walk.Kind.ASKED
            broken = outcome.rules(asked)
            for row in np.flatnonzero(asked).tolist():
                ordinal = int(turn.batch.ordinal[row])
                assert ordinal not in becomes, "each change comes once"
                place_in_worst = int(outcome.becomes[row])
                becomes[ordinal] = "passes" if place_in_worst < 1 else str(WORST[place_in_worst])
                rules[ordinal] = sorted(broken.get(row, ()))
            for rule, rows in outcome.tried.unknown.items():
                unknown.setdefault(rule, []).extend(turn.batch.ordinal[rows[asked[rows]]].tolist())
    return becomes, rules, {rule: found for rule, found in unknown.items() if found}


def _became(place: Place, ordinals: set[int]) -> tuple[dict[int, str], dict[int, list[str]]]:
    """What ingest made of changes."""
    records = {one.ordinal: sorted(reason.rule for reason in one.reasons) for one in place.records()}
    passed = set(place.passed())
    assert not passed & records.keys()
    becomes = {one: "passes" if one in passed else str(Action.QUARANTINE) if one in records else str(Action.DROP) for one in ordinals}
    return becomes, {one: records.get(one, []) for one in ordinals}


@settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(HISTORIES, RULE_SETS, st.booleans(), st.booleans(), st.sampled_from([2, 5, 1000]), st.sampled_from([0, 3]), _ORDERS, _ORDERS)
def test_a_trial_says_what_ingest_would_have_done(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[list[Event]],
    rules: RuleSet,
    full: bool,
    database: bool,
    last: int,
    partitions: int,
    order: str,
    old_order: str,
) -> None:
    folder = tmp_path_factory.mktemp("trial")
    schema = SCHEMA if database else MESSAGES
    text = contract(NEW, rules, order)
    with (
        pytest.MonkeyPatch.context() as patch,
        closing(_ingested(folder / "old", contract(OLD, order=old_order), Table(full, schema), history, partitions)) as old,
        closing(_ingested(folder / "new", text, Table(full, schema), history)) as new,
    ):
        patch.setattr(dataflows.trial_walk, "_STRETCH", 4)
        patch.setattr(dataflows.trial_walk, "_PAGE", 2)
        becomes, broken, unknown = _tried(old, text, last)
        assert sorted(becomes) == sorted(old.passed()[-last:])
        assert unknown == {}
        wanted, held_by = _became(new, set(becomes))
        assert becomes == wanted
        if all(action == "quarantine" for _, action, _ in rules):
            assert broken == held_by
