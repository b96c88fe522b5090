"""What a contract calls confidential is shown nowhere until one that says otherwise is in force: an edited file opens nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataflows.alerts.ownership import Ownership
from dataflows.build import contracts
from dataflows.contracts_in_force import in_force
from dataflows.hidden import Hidden
from dataflows.sensitive import Sensitive
from journal.quarantine import Reason, Values
from pipeline.load import load_pipeline
from quality.alerts.conditions import Subject
from tests.invoking import sluice
from tests.report_place import CONTRACT, Shop, held

SECRET = "4711-secret"
NUMBER = "logicalType: number\n"
OPEN = CONTRACT
CLOSED = CONTRACT.replace(NUMBER, f"{NUMBER}        classification: confidential\n")
RAW: Values = {"id": "1", "note": "n", "amount": SECRET}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A record was held back when its value was for everybody; the contract that is in force since calls it confidential."""
    shop = Shop(tmp_path / "shop", CLOSED)
    shop.fill(held(100, raw=RAW, before=None, after=RAW, reasons=(Reason("amount-positive", "amount", "is positive", SECRET),)))
    shop.put_in_force()
    return shop


def _seen(shop: Shop) -> str:
    """Everything that people are shown of the record."""
    told, page = shop.report()
    (one,) = sluice("quarantine", "list", shop.file, "--json").json
    out = shop.folder / "out.jsonl"
    sluice("quarantine", "export", shop.file, "--out", out)
    return json.dumps([told, one]) + page + sluice("quarantine", "show", shop.file, one["id"]).out + out.read_text()


def test_a_file_that_declassifies_a_column_shows_nothing_before_it_is_approved(shop: Shop) -> None:
    assert SECRET not in _seen(shop)
    shop.write_contract(OPEN, "2.0.0")
    assert SECRET not in _seen(shop)
    assert Hidden(shop.pipeline)("orders") == frozenset({"amount"})
    (sensitive,) = Sensitive(shop.pipeline).marked([held(1)])
    assert sensitive.sensitive
    shop.put_in_force(by="bo@example.com")
    assert SECRET in _seen(shop)
    assert Sensitive(shop.pipeline).marked([held(1)]) == [held(1)] or not Sensitive(shop.pipeline).marked([held(1)])[0].sensitive


def test_a_pipeline_file_without_the_contract_shows_nothing(shop: Shop) -> None:
    shop.file.write_text(shop.file.read_text().replace(", contract: orders.yaml", ""))
    assert SECRET not in _seen(shop)
    ownership = Ownership(shop.pipeline)
    ownership.refresh()
    assert ownership.hides("orders", "amount")


def test_a_file_that_cannot_be_read_shows_nothing(shop: Shop) -> None:
    (shop.folder / "orders.yaml").write_text("kind: [")
    assert Hidden(shop.pipeline)("orders") == frozenset({"amount"})
    fresh = Shop(shop.folder.parent / "fresh")
    (fresh.folder / "orders.yaml").write_text("kind: [")
    assert Hidden(load_pipeline(fresh.file))("orders") is None


def test_what_is_in_force_is_what_was_in_force_when_it_was_asked_for(shop: Shop) -> None:
    """A file that changes between the question and the reading of the contract is not taken for it."""
    pipeline = in_force(shop.pipeline)
    shop.write_contract(OPEN, "2.0.0")
    assert contracts(pipeline)["orders"].sensitive


def test_alerts_go_to_the_owner_of_the_contract_in_force(shop: Shop) -> None:
    ownership = Ownership(shop.pipeline)
    subject = Subject("orders")
    assert (ownership.whose(subject).owner, ownership.whose(subject).pipeline_owner) == (None, "integration@example.com")
    assert ownership.hides("orders", "note"), "nobody has looked yet what is in force"
    ownership.refresh()
    assert ownership.whose(subject).owner == "ann@example.com"
    assert not ownership.hides("orders", "note")
    shop.write_contract(OPEN.replace("ann@example.com", "eve@example.com"), "2.0.0")
    assert ownership.whose(subject).owner == "ann@example.com"
    ownership.refresh()
    assert ownership.whose(subject).owner == "ann@example.com"
    assert ownership.hides("orders", "amount")
    shop.put_in_force(by="bo@example.com")
    ownership.refresh()
    assert ownership.whose(subject).owner == "eve@example.com"
    assert not ownership.hides("orders", "amount")
