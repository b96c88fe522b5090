"""Records that are sealed with a key which is not known where they would be replayed stay what they are, and the key is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from journal.quarantine import QuarantineRecord
from journal.sealing import FILE_VARIABLE, VARIABLE
from tests.invoking import sluice
from tests.report_place import CONTRACT, Shop, held

_KEY, _OTHER = "k" * 32, "o" * 32
_MARK = "classification: confidential\n"
CLOSED = CONTRACT.replace("logicalType: number\n", f"logicalType: number\n        {_MARK}")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    monkeypatch.setenv(VARIABLE, _KEY)


def _approved(ordinal: int) -> QuarantineRecord:
    row = {"id": str(ordinal), "note": "n", "amount": "3"}
    return held(
        ordinal, sensitive=True, status="approved", approved_by="bo@example.com", operation="insert", raw=row, before=None, after=row,
        key={"id": str(ordinal)},
    )  # fmt: skip


@pytest.mark.parametrize("which", ["one", "approved"])
def test_a_replay_leaves_what_it_cannot_open_and_names_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    shop = Shop(tmp_path / "shop", CLOSED)
    shop.fill(_approved(100))
    monkeypatch.setenv(VARIABLE, _OTHER)
    shop.fill(_approved(101))  # with the key of now
    first, second = sluice("quarantine", "list", shop.file, "--json").json
    wanted = ["--approved"] if which == "approved" else [first["id"], second["id"]]
    done = sluice("quarantine", "replay", shop.file, *wanted, "--json")
    (left,) = [one for one in done.json["records"] if "why" in one]
    assert (left["id"], left["status"]) == (first["id"], "approved")
    assert "is not known" in left["why"]
    assert VARIABLE in left["why"]
    assert done.code == 1 if which == "one" else done.code == 0
    again = {one["id"]: one for one in sluice("quarantine", "list", shop.file, "--json").json}
    assert (again[first["id"]]["status"], again[first["id"]]["attempts"]) == ("approved", 0)
    assert again[second["id"]]["status"] == "resolved"
    monkeypatch.setenv(VARIABLE, f"{_OTHER},{_KEY}")
    assert sluice("quarantine", "replay", shop.file, "--approved").code == 0
    assert {one["status"] for one in sluice("quarantine", "list", shop.file, "--json").json} == {"resolved"}


def test_a_row_that_a_sink_refused_stays_too_where_its_key_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path / "shop", CLOSED)
    shop.fill()
    (name,) = shop.refuse(_approved(1))
    monkeypatch.setenv(VARIABLE, _OTHER)
    done = sluice("quarantine", "replay", shop.file, name, "--json")
    (left,) = done.json["records"]
    assert (done.code, left["status"]) == (1, "approved")
    assert "which is not known" in left["why"]
    assert VARIABLE in left["why"]
    (one,) = sluice("quarantine", "list", shop.file, "--json").json
    assert (one["status"], one["attempts"]) == ("approved", 0)
