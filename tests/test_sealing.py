"""What a contract calls confidential or restricted is on no disk in clear once it is in quarantine, and only the key brings it back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cli.records import Masks
from journal.local import JournalReader
from journal.quarantine import COLUMNS, QuarantineRecord, Reason, Wanted, from_row, record_id, to_row
from journal.sealing import FILE, FILE_VARIABLE, VARIABLE, Seal, SealedError, is_sealed
from journal.state import State
from pipeline.errors import ConfigError, TerminalError
from pipeline.load import load_pipeline
from tests.journal_cases import SOURCE, opened, reading

_SECRET = "ann-is-not-well@example.com"
_KEY, _OTHER = "k" * 32, "o" * 32


def _record(ordinal: int = 1, *, sink: str | None = None) -> QuarantineRecord:
    row = {"order_id": "1", "email": _SECRET}
    return QuarantineRecord(
        id=record_id("0123456789", ordinal, sink), dataset="orders", source=SOURCE, table="public.orders", operation="update",
        key={"order_id": "1"}, position="0/1", ordinal=ordinal, committed_at=1, raw=row, before=row, after=row,
        reasons=(Reason("email-format-1", "email", "it is an e-mail address", "***"),), quarantined_at=1.0, patch={"email": _SECRET},
        message=f'{{"key": null, "value": "{_SECRET}", "headers": []}}', sink=sink, sensitive=True,
    )  # fmt: skip


def _everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def _judged(folder: Path) -> QuarantineRecord:
    with opened(folder) as writer:
        writer.quarantine([_record()])
        writer.commit(SOURCE, "w")
        assert _SECRET.encode() not in _everything(folder)
    return _found(folder)


def _found(folder: Path) -> QuarantineRecord:
    with reading(folder) as reader:
        [found] = reader.quarantined(Wanted())
    return found


@pytest.fixture(autouse=True)
def _no_key_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (VARIABLE, FILE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)


def test_a_record_is_sealed_on_disk_and_whole_when_it_is_read(tmp_path: Path) -> None:
    assert _judged(tmp_path) == _record()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_what_a_sink_refused_is_sealed_too(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    state.keep_refused("eu", [_record(sink="eu")], 3)
    state.sink_progress("eu", state="running", error=None, journal="01234567", seq=5, cursor="{}")
    assert _SECRET.encode() not in _everything(tmp_path)
    assert state.refused(Wanted()) == [_record(sink="eu")]
    state.close()


def test_a_key_of_the_environment_leaves_none_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, _KEY)
    _judged(tmp_path)
    assert not (tmp_path / FILE).exists()
    monkeypatch.delenv(VARIABLE)
    found = _found(tmp_path)
    assert found.key == {"order_id": "1"}
    assert _SECRET not in str(found.message)
    assert "Sealed" in repr(found.raw)
    with pytest.raises(SealedError, match="not known here") as caught:
        dict(found.raw)
    assert VARIABLE in str(caught.value.hint)
    assert not (tmp_path / FILE).exists()


def test_a_new_key_seals_and_old_ones_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text(_KEY)
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    old = Seal(tmp_path).seal("x", "here")
    file.write_text(f"{_OTHER}\n{_KEY}\n")
    both = Seal(tmp_path)
    assert both.open(old, "here") == "x"
    new = both.seal("x", "here")
    file.write_text(_OTHER)
    assert Seal(tmp_path).open(new, "here") == "x"
    with pytest.raises(SealedError):
        Seal(tmp_path).open(old, "here")


def test_a_key_that_is_no_secret_or_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "short")
    with pytest.raises(ConfigError, match="SLUICE_ENCRYPTION_KEY is shorter") as caught:
        Seal(tmp_path).seal("x", "here")
    assert 'short"' not in str(caught.value)
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(TerminalError, match="there is no file"):
        Seal(tmp_path).seal("x", "here")


def test_what_was_changed_or_put_in_the_place_of_another_is_not_opened(tmp_path: Path) -> None:
    seal = Seal(tmp_path)
    row, other = (dict(zip(COLUMNS, to_row(one, seal), strict=True)) for one in (_record(), _record(2)))
    for wrong in (other["raw"], row["before"], row["raw"][:-8] + "AAAAAAA=", row["raw"][:20]):
        with pytest.raises(SealedError):
            dict(from_row([*{**row, "raw": wrong}.values()], seal).raw)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, _KEY)
        seal = Seal(Path("nowhere"))
        sealed = seal.seal(text, "here")
        assert is_sealed(sealed)
        assert seal.open(sealed, "here") == text


def test_people_without_the_key_see_what_is_not_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        "pipeline: shop\nsources: {p: {type: postgres, dsn: host=x, tables: [public.orders]}}\nsinks: {w: {type: duckdb, path: w}}\n"
    )
    monkeypatch.setenv(VARIABLE, _KEY)
    _judged(tmp_path)
    monkeypatch.setenv(VARIABLE, _OTHER)
    found = _found(tmp_path)
    masks = Masks(load_pipeline(file))
    assert masks(found, found.raw) == {"(sealed)": "***"}
    assert masks(found, found.key) == {"order_id": "1"}
    with pytest.raises(SealedError):
        Masks(load_pipeline(file), off=True)(found, found.raw)


def test_records_of_datasets_that_have_nothing_to_hide_need_no_key(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.quarantine([structs.replace(_record(), sensitive=False)])
        writer.commit(SOURCE, "w")
    assert not (tmp_path / FILE).exists()
    with JournalReader.open(tmp_path, "commerce") as reader:
        assert reader.quarantined(Wanted())[0].raw["email"] == _SECRET
