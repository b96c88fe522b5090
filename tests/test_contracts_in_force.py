"""Which contract judges: the one in the file, unless it breaks what others rely on and nobody has approved it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dataflows.approving import APPROVE_CONTRACT
from dataflows.build import contracts
from dataflows.contracts_in_force import coming_into_force, in_force, put_in_force
from dataflows.judged_by import JudgedBy
from dataflows.requests import open_requests
from dataflows.stages import load_stages
from journal import audit_trail, changelog
from journal import contracts as kept_contracts
from journal.inbox import Inbox
from journal.opening import open_writer
from journal.state import State
from pipeline.errors import ConfigError, TransientError
from pipeline.load import load_pipeline
from pipeline.model import Pipeline
from tests.invoking import sluice
from tests.journal_cases import SOURCE, changes
from tests.test_cli_check import CONTRACT, PIPELINE


class Place:
    """A pipeline whose journal is there."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "pipeline.yaml"
        self.contract = folder / "orders.odcs.yaml"
        self.file.write_text(PIPELINE)
        self.write("1.0.0")

    def write(self, version: str, *, approval: str = "four-eyes") -> str:
        """The contract's file. `self` where it was four-eyes is breaking."""
        custom = f"    customProperties: [{{property: approval, value: {approval}}}]\n"
        text = CONTRACT.replace("version: 1.0.0", f"version: {version}").rstrip("\n") + f"\n{custom}"
        self.contract.write_text(text)
        return text

    @property
    def pipeline(self) -> Pipeline:
        return load_pipeline(self.file)

    def start(self) -> Pipeline:
        """As ingest does at its start."""
        with open_writer(self.pipeline) as journal:
            return put_in_force(self.pipeline, journal)

    def versions(self) -> list[tuple[str, str | None]]:
        """Those that were in force, and who approved them."""
        with open_writer(self.pipeline) as journal, journal.view() as db:
            return [(one.version, one.by) for one in kept_contracts.kept(db, "orders")]

    def judges(self) -> str:
        return contracts(in_force(self.pipeline))["orders"].version

    def status(self) -> Any:
        return sluice("status", self.file, "--json").json["datasets"]["orders"]["contract"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_first_contract_and_what_breaks_nothing_come_into_force_with_a_start(place: Place) -> None:
    assert place.status() == {"version": None, "in_force": None, "pending": None}
    place.start()
    place.start()
    assert place.versions() == [("1.0.0", None)]
    place.write("1.1.0")
    assert place.judges() == "1.0.0", "a file that changes changes nothing by itself"
    assert place.status()["pending"] == {"version": "1.1.0", "error": None, "breaking": []}
    started = contracts(place.start())["orders"]
    assert (started.version, place.judges(), place.versions()) == ("1.1.0", "1.1.0", [("1.0.0", None), ("1.1.0", None)])
    told = place.status()
    assert (told["version"], told["in_force"]["version"], told["in_force"]["by"], told["pending"]) == ("1.1.0", "1.1.0", None, None)


def test_who_reads_for_ingest_reads_by_what_comes_into_force_with_the_same_start(place: Place) -> None:
    def read_by() -> str:
        return contracts(coming_into_force(place.pipeline))["orders"].version

    assert read_by() == "1.0.0"
    place.start()
    place.write("1.1.0")
    assert (place.judges(), read_by()) == ("1.0.0", "1.1.0")
    place.start()
    assert read_by() == "1.1.0"
    place.write("2.0.0", approval="self")
    assert read_by() == "1.1.0"


def test_what_breaks_others_waits_until_somebody_approves_it(place: Place) -> None:
    place.start()
    place.write("2.0.0", approval="self")
    assert contracts(place.start())["orders"].version == "1.0.0"
    told = place.status()
    assert (told["version"], told["in_force"]["version"], told["pending"]["version"]) == ("2.0.0", "1.0.0", "2.0.0")
    assert told["pending"]["breaking"] == ["approval: who mends a record may release it alone"]
    assert "the contract 2.0.0 waits for approval, 1.0.0 judges" in sluice("status", place.file).out
    checked = sluice("check", place.file)
    assert checked.code == 0
    assert f"sluice contract approve {place.file} orders --by NAME" in checked.out
    approved = sluice("contract", "approve", place.file, "orders", "--by", "bo@example.com", "--json")
    assert (approved.code, approved.json) == (0, {"dataset": "orders", "former": "1.0.0", "version": "2.0.0", "changed": True})
    assert (place.judges(), place.versions()) == ("2.0.0", [("1.0.0", None), ("2.0.0", "bo@example.com")])
    assert place.status()["pending"] is None
    again = sluice("contract", "approve", place.file, "orders", "--by", "bo@example.com")
    assert again.out == "orders: the contract 2.0.0 is in force already\n"
    with open_writer(place.pipeline) as journal, journal.view() as db:
        (line,) = audit_trail.lines(db)
    assert (line.action, line.by, line.dataset) == (APPROVE_CONTRACT, "bo@example.com", "orders")
    assert {key: line.detail[key] for key in ("version", "former")} == {"version": "2.0.0", "former": "1.0.0"}


@pytest.mark.parametrize("text", ["", "kind: DataContract\n", "\tx", "apiVersion: v9.0.0\nkind: DataContract\n"])
def test_a_file_that_is_not_sound_any_more_changes_nothing(place: Place, text: str) -> None:
    place.start()
    place.contract.write_text(text)
    assert contracts(place.start())["orders"].version == "1.0.0"
    told = place.status()
    assert (told["version"], told["in_force"]["version"], told["pending"]["version"]) == (None, "1.0.0", None)
    assert str(place.contract) in told["pending"]["error"]
    assert sluice("contract", "approve", place.file, "orders", "--by", "bo@example.com").code == 2
    place.write("1.0.0")
    assert place.status()["pending"] is None


def test_a_first_contract_has_to_be_sound(place: Place) -> None:
    place.contract.write_text("kind: DataContract\n")
    with pytest.raises(ConfigError, match="apiVersion is missing"):
        place.start()
    assert place.versions() == []


def test_messages_about_the_contract_in_force_name_it_and_its_own_lines(place: Place) -> None:
    place.start()
    place.contract.write_text("")
    (contract,) = contracts(in_force(place.pipeline)).values()
    assert contract.file.name == "orders.odcs.yaml@1.0.0"
    assert contract.rules[0].line > 1


def test_nobody_approves_what_is_not_there(place: Place) -> None:
    before = sluice("contract", "approve", place.file, "orders", "--by", "bo@example.com")
    assert (before.code, "no contract is in force yet" in before.err) == (2, True)
    place.start()
    other = sluice("contract", "approve", place.file, "oders", "--by", "bo@example.com")
    assert (other.code, "did you mean orders?" in other.err) == (2, True)
    assert sluice("contract", "approve", place.file, "orders", "--by", " ").code == 2


def test_an_ingest_that_runs_takes_an_approval_and_begins_again_with_it(place: Place) -> None:
    place.start()
    text = place.write("2.0.0", approval="self")
    pipeline = place.pipeline
    with open_writer(pipeline) as journal, closing(State.open(pipeline.state)) as state, closing(Inbox(pipeline.state)) as inbox:
        running = put_in_force(pipeline, journal)
        rules = contracts(running)
        requests = open_requests(running, rules, journal, state, load_stages(running, rules, journal), lambda: None)
        with closing(requests):
            requests.work(0.1)
            requests.begin_again()
            asked = inbox.ask({"action": APPROVE_CONTRACT, "dataset": "orders", "by": "bo@example.com", "file": "x.yaml", "text": text})
            later = inbox.ask({"action": "replay", "ids": ["x"], "by": "bo@example.com"})
            requests.look()
            requests.work(5.0)
            answer = inbox.answered(asked)
            assert answer is not None
            assert (answer["code"], answer["version"]) == (0, "2.0.0")
            assert inbox.answered(later) is None, "nothing more is judged by the former one"
            with pytest.raises(TransientError, match="begins again"):
                requests.begin_again()
        assert contracts(put_in_force(pipeline, journal))["orders"].version == "2.0.0"


def test_what_judged_a_change_is_noted_with_the_contract_in_force(place: Place) -> None:
    place.start()
    place.write("2.0.0", approval="self")
    judged = JudgedBy(1, contracts(place.start()), {SOURCE: {}}.__getitem__).note(changes(1, 1))
    assert '"version": "1.0.0"' in next(iter(judged.values()))


def test_other_machines_get_the_contracts_too(place: Place) -> None:
    place.start()
    assert "contract" in changelog.TABLES
    with open_writer(place.pipeline) as journal, journal.view() as db:
        rows = changelog.Rows(db)
        assert rows.keys["contract"] == ["dataset", "n"]
        assert rows.content("contract", ("orders", 1)) is not None
