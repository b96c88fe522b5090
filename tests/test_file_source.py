"""A folder of files as a source: each file once, in order, whatever becomes of the process and of the files."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import Refused
from sources.files.pattern import Pattern
from sources.records import csv_file, json_file, xml_file
from tests.file_taking import put
from tests.fix_files import MakeTaking
from tests.waiting import wait_for


def _csv(*ids: int, name: str = "n") -> str:
    return "id,name\n" + "".join(f"{one},{name}{one}\n" for one in ids)


def test_files_come_once_from_the_oldest_on_and_by_name_where_they_are_of_one_age(folder: Path, make_taking: MakeTaking) -> None:
    put(folder, "b.csv", _csv(3), age=50)
    put(folder, "z.csv", _csv(1), age=90)
    old = put(folder, "a.csv", _csv(2))
    os.utime(old, ns=(0, (folder / "b.csv").stat().st_mtime_ns))
    taking = make_taking().until_read()
    assert taking.ids == ["1", "2", "3"]
    put(folder, "0.csv", _csv(4), age=100)
    taking.until_read()
    taking.kill()
    taking.until_read()
    assert taking.ids == ["1", "2", "3", "4"]
    assert [json.loads(note)["name"] for note in taking.notes.values()] == ["z.csv", "a.csv", "b.csv", "0.csv"]
    assert json.loads(taking.notes["file:1"])["rows"] == 1


def test_files_that_somebody_still_writes_are_left_alone_by_their_names(folder: Path, make_taking: MakeTaking) -> None:
    for name in ("a.csv.tmp", "b.part", ".c.csv", ".hidden/d.csv", "deep/e.csv"):
        put(folder, name, _csv(1))
    (folder / "nowhere.csv").symlink_to(folder / "nothing")
    (folder / "round.csv").symlink_to("round.csv")
    taking = make_taking().until_read()
    assert taking.rows == []
    (folder / "a.csv.tmp").rename(folder / "a.csv")
    assert taking.until_read().ids == ["1"]


@pytest.mark.parametrize(
    "pattern, matching, others",
    [
        ("*.csv", ["a.csv"], ["a.csv.gz", "x/a.csv", "a.CSV", ".a.csv"]),
        ("2026-*/*.csv", ["2026-01/a.csv"], ["a.csv", "2026-01/x/a.csv", "2025-01/a.csv"]),
        ("**/*.csv", ["a.csv", "x/a.csv", "x/y/a.csv"], ["x/.y/a.csv", "x/a.csv.part"]),
        ("in/**/o?.[cx]*", ["in/o1.csv", "in/a/b/o2.xml"], ["o1.csv", "in/o.csv"]),
        ("*", ["a", "a.csv"], ["a/b", "a.tmp"]),
    ],
)
def test_a_pattern_matches_names_below_the_folder(pattern: str, matching: list[str], others: list[str]) -> None:
    made = Pattern(pattern)
    assert [name for name in matching + others if made.matches(name)] == matching


def test_files_in_folders_below_are_read_where_the_pattern_says_so(folder: Path, make_taking: MakeTaking) -> None:
    put(folder, "2026/01/a.csv", _csv(1), age=90)
    put(folder, "2026/b.csv", _csv(2))
    taking = make_taking(pattern="**/*.csv").until_read()
    assert taking.places == [{"file": "2026/01/a.csv", "line": 2}, {"file": "2026/b.csv", "line": 2}]


def test_a_file_that_grows_is_read_when_it_is_still_and_sync_does_not_wait_for_it(folder: Path, make_taking: MakeTaking) -> None:
    put(folder, "done.csv", _csv(1))
    growing = put(folder, "growing.csv", "id,name\n", age=0)
    taking = make_taking(settle_seconds=0.6)
    source = taking.start()
    head = source.head()

    def reached() -> bool:
        with growing.open("a") as file:
            file.write("2,x\n")
        taking.take()
        return source.reached(taking.watermark, head)

    wait_for(reached, message="the file that was still")
    assert taking.ids == ["1"]
    taking.until_read()
    assert taking.ids[0] == "1"
    assert len(taking.ids) == len(growing.read_text().splitlines())


def test_a_file_whose_time_is_in_the_future_is_read_once_it_has_been_still(folder: Path, make_taking: MakeTaking) -> None:
    put(folder, "a.csv", _csv(1), age=-3600)
    taking = make_taking(settle_seconds=0.2)
    assert taking.until_read().ids == ["1"]


def test_a_file_that_changes_after_it_was_read_is_told_and_not_read_again(folder: Path, make_taking: MakeTaking) -> None:
    put(folder, "a.csv", _csv(1))
    taking = make_taking().until_read()
    put(folder, "a.csv", _csv(1, 2), age=30)
    put(folder, "b.csv", _csv(3))
    taking.until_read()
    assert taking.ids == ["1", "3"]
    assert taking.source is not None
    assert "a.csv changed" in (taking.source.status().tables["drops"].error or "")
    taking.kill()
    taking.until_read()
    assert taking.ids == ["1", "3"]
    assert taking.source is not None
    assert "a.csv changed" in (taking.source.status().tables["drops"].error or "")


def test_killed_behind_any_segment_a_record_comes_exactly_once(
    folder: Path, make_taking: MakeTaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_file, "BATCH", 3)
    put(folder, "a.csv", _csv(*range(10)), age=90)
    put(folder, "b.csv", "id,name\n", age=80)
    put(folder, "c.csv", 'id,name\n10,x\nbad,y\n11,z\n12,"two\nlines"\n')
    put(folder, "d.csv", "", age=50)
    whole = make_taking().until_read()
    assert whole.commits > 6
    for survived in range(whole.commits + 1):
        taking = make_taking()
        taking.start()
        for _ in range(survived):
            assert taking.take(10) is not None
        taking.kill()
        taking.until_read()
        assert taking.ids == [str(one) for one in range(13)]
        assert [one.place for one in taking.bad] == [{"file": "c.csv", "line": 3}]
        assert {name: json.loads(note)["rows"] for name, note in taking.notes.items()} == {
            "file:1": 10,
            "file:2": 0,
            "file:3": 4,
            "file:4": 0,
        }


def test_names_may_be_any_bytes(folder: Path, make_taking: MakeTaking) -> None:
    name = os.fsdecode(b"caf\xe9\n\x1b[31m.csv")
    put(folder, name, "id,name\nx,y\n1,z\n")
    taking = make_taking().until_read()
    taking.kill()
    taking.until_read()
    assert taking.ids == ["1"]
    assert taking.bad[0].place == {"file": "caf\\xe9\n\x1b[31m.csv", "line": 2}
    assert json.loads(taking.notes["file:1"])["name"] == name


@pytest.mark.parametrize("what", ["changed", "went"])
def test_a_file_that_changes_or_goes_in_the_middle_leaves_a_record_in_quarantine(
    folder: Path, make_taking: MakeTaking, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(csv_file, "BATCH", 2)
    path = put(folder, "a.csv", _csv(1, 2, 3, 4, 5), age=90)
    put(folder, "b.csv", _csv(6))
    taking = make_taking()
    taking.start()
    assert taking.take(10) is not None
    taking.kill()
    if what == "changed":
        put(folder, "a.csv", _csv(7), age=30)
    else:
        path.unlink()
    taking.until_read()
    assert taking.ids == ["1", "2", "6"]
    (bad,) = taking.bad
    assert bad.place == {"file": "a.csv", "line": 4}
    assert "changed or went" in bad.message


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_as_it_was_found_though_somebody_writes_on(
    folder: Path, make_taking: MakeTaking, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr(csv_file, "BATCH", 200)
    text = "id,name\n" + "".join(f"{n},{os.urandom(5000).hex()}\n" for n in range(1000))
    path = put(folder, "a.csv.gz" if packed else "a.csv", gzip.compress(text.encode(), 1) if packed else text)
    taking = make_taking()
    taking.start()
    assert taking.take(10) is not None
    with path.open("ab") as file:
        file.write(b"\x1f\x8b half of it" if packed else b"1000,half of it")
    put(folder, "b.csv", _csv(2000))
    taking.until_read()
    assert taking.ids == [*map(str, range(1000)), "2000"]
    assert taking.bad == []
    assert taking.source is not None
    assert f"{path.name} changed" in (taking.source.status().tables["drops"].error or "")


@pytest.mark.parametrize("form", ["csv", "json", "xml"])
def test_a_file_that_is_cut_while_it_is_read_leaves_a_record_in_quarantine(
    folder: Path, make_taking: MakeTaking, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    for module in (csv_file, json_file, xml_file):
        monkeypatch.setattr(module, "BATCH", 200)
    value = "v" * 10_000
    text = {
        "csv": "id,name\n" + "".join(f"{n},{value}\n" for n in range(1000)),
        "json": "".join(json.dumps({"id": n, "name": value}) + "\n" for n in range(1000)),
        "xml": "<all>" + "".join(f'<order id="{n}" name="{value}"/>' for n in range(1000)) + "</all>",
    }[form]
    path = put(folder, "a", text)
    taking = make_taking(format=form, **({"record": "order"} if form == "xml" else {}))
    taking.start()
    assert taking.take(10) is not None
    os.truncate(path, 100)
    put(folder, "b", {"csv": _csv(2000), "json": '{"id": 2000}', "xml": '<order id="2000"/>'}[form])
    taking.until_read()
    assert taking.ids == [*map(str, range(len(taking.ids) - 1)), "2000"]
    assert len(taking.ids) < 1000
    assert "was cut while it was read" in taking.bad[-1].message
    assert all(len(row["name"] or "") == 10_000 for row in taking.rows[:-1])


def test_a_file_that_cannot_be_read_is_told_and_its_neighbours_go_on(folder: Path, make_taking: MakeTaking) -> None:
    (folder / "a.csv").symlink_to("/proc/self/mem")  # it opens, and gives an input/output error
    put(folder, "b.csv", _csv(1))
    taking = make_taking()
    source = taking.start()
    head = source.head()
    assert "a.csv cannot be read" in taking.until("retrying")
    wait_for(lambda: taking.take() or taking.ids, message="the neighbour")
    assert taking.ids == ["1"]
    assert not source.reached(taking.watermark, head)
    (folder / "a.csv").unlink()
    wait_for(lambda: taking.take() or source.reached(taking.watermark, head), message=lambda: f"all that is left; {source.status()}")
    assert taking.until("streaming") == ""


def test_a_folder_that_never_was_there_stops_the_source(folder: Path, make_taking: MakeTaking) -> None:
    taking = make_taking(path=str(folder / "missing"))
    source = taking.start()
    with pytest.raises(Refused, match=r"there is no folder .*missing"):
        source.take(10)
    with pytest.raises(Refused, match="is no folder"):
        make_taking(path=str(put(folder, "a.csv", ""))).start().take(10)


def test_a_folder_that_goes_away_is_waited_for(folder: Path, make_taking: MakeTaking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "BATCH", 2)
    put(folder, "a.csv", _csv(1, 2, 3, 4))
    taking = make_taking()
    taking.start()
    assert taking.take(10) is not None
    taking.kill()
    away = folder.rename(folder.with_name("away"))
    taking.start()
    assert "there is no folder" in taking.until("retrying")
    away.rename(folder)
    taking.until_read()
    assert taking.ids == ["1", "2", "3", "4"]
    assert taking.bad == []


@contextmanager
def _unprivileged() -> Iterator[None]:
    """Root may read everything: for a while, this process is nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_read_stops_the_source(folder: Path, make_taking: MakeTaking) -> None:
    folder.chmod(0)
    try:
        with _unprivileged():
            taking = make_taking()
            source = taking.start()
            with pytest.raises(Refused, match="may not be read"):
                source.take(10)
    finally:
        folder.chmod(0o700)


def test_compressed_files_are_unpacked_and_broken_ones_hurt_no_neighbour(folder: Path, make_taking: MakeTaking) -> None:
    packed = gzip.compress(_csv(*range(1, 4000)).encode())
    put(folder, "a.csv.gz", packed, age=90)
    put(folder, "b.csv.gz", packed[: len(packed) // 2], age=80)
    put(folder, "c.csv.gz", _csv(5), age=70)
    put(folder, "d.csv.gz", gzip.compress(_csv(9).encode())[:-8] + b"\0" * 8, age=65)
    put(folder, "e.csv", _csv(10000))
    taking = make_taking().until_read()
    assert taking.ids[:3999] == [str(one) for one in range(1, 4000)]
    assert taking.ids[-1] == "10000"
    half = [place["line"] for place in taking.places if place["file"] == "b.csv.gz"]
    assert half == list(range(2, len(half) + 2))
    assert 100 < len(half) < 3999
    assert [row["name"] for row in taking.rows[3999 : 3999 + len(half)]] == [f"n{one}" for one in range(1, len(half) + 1)]
    assert [one.place for one in taking.bad] == [
        {"file": "b.csv.gz", "line": len(half) + 2},
        {"file": "c.csv.gz", "line": 1},
        {"file": "d.csv.gz", "line": 3},
    ]
    assert all("cannot be unpacked" in one.message and "nothing behind this is read" in one.message for one in taking.bad)


def test_what_is_not_taken_is_not_read(folder: Path, make_taking: MakeTaking) -> None:
    for number in range(20):
        put(folder, f"{number:02}.csv", _csv(*range(number * 10, number * 10 + 10)), age=100 - number)
    taking = make_taking()
    source = taking.start()
    wait_for(lambda: source.status().bytes_read, message="the first file")
    waiting = source.status()
    assert waiting.lag_bytes is not None
    assert int((waiting.server or "").split()[0]) >= 15
    taking.until_read()
    assert taking.ids == [str(one) for one in range(200)]
    assert source.status().lag_bytes == 0


def test_a_sink_of_its_own_gets_every_file_again_and_what_is_new_follows(folder: Path, make_taking: MakeTaking) -> None:
    put(folder, "a.csv", _csv(1, 2), age=90)
    put(folder, "b.csv", _csv(3))
    taking = make_taking().until_read()
    assert taking.source is not None
    taking.source.copy_again("drops", "late")
    taking.source.copy_again("drops", "late")
    wait_for(lambda: taking.take() and ("end", False) in taking.copies, message="the copy")
    assert taking.copies == [("start", False), ("late", "1"), ("late", "2"), ("late", "3"), ("end", False)]
    put(folder, "c.csv", _csv(4))
    assert taking.until_read().ids == ["1", "2", "3", "4"]
    (folder / "a.csv").unlink()
    taking.source.copy_again("drops", "later")
    wait_for(lambda: taking.take() and ("end", True) in taking.copies, message="the copy of what is left")
    assert taking.copies[5:] == [("start", True), ("later", "3"), ("later", "4"), ("end", True)]
