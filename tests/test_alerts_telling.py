"""From what is on disk to what owners read: told once, through restarts, channels that are away, and names that nobody would choose."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from msgspec import structs

from dataflows.alerts.telling import Telling
from dataflows.stopping import Stop
from journal.alerting import Message
from journal.audits import Audits
from journal.local import JournalReader
from journal.locks import ProcessLock
from journal.processes import WATCH
from journal.state import Folder, State
from pipeline.load import load_pipeline
from pipeline.model import JournalConfig, KafkaJournal
from quality.alerts.payload import moment
from tests.alert_place import CONTRACT, NOW, PAYLOAD_SCHEMA, PIPELINE, Shop
from tests.http_inbox import Inbox, inbox
from tests.invoking import sluice


@pytest.fixture
def web() -> Iterator[Inbox]:
    with inbox() as made:
        yield made


@pytest.fixture
def shop(tmp_path: Path, web: Inbox) -> Iterator[Shop]:
    with closing(Shop(tmp_path, web)) as made:
        yield made


def test_before_anything_has_run_nothing_is_told(tmp_path: Path, web: Inbox) -> None:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE.replace("URL", web.url))
    (tmp_path / "orders.yaml").write_text(CONTRACT)
    pipeline = load_pipeline(tmp_path / "pipeline.yaml", {})
    assert pipeline.alerts is not None
    with closing(Telling(pipeline, pipeline.alerts, Stop())) as telling:
        telling.tick(NOW)
        telling.tick(NOW + 100)
    assert not web.posted


def test_causes_are_told_once_in_one_message_with_counts_shares_and_the_command(shop: Shop) -> None:
    bad = [shop.record(n) for n in range(1, 8)] + [shop.record(8, column="email", value="***", rule="email-format-1")]
    shop.arrive(1000, bad)
    (told,) = shop.told()
    jsonschema.validate(told, PAYLOAD_SCHEMA)
    assert told["title"] == "orders: 2 new causes in quarantine (8 records)"
    assert (told["kind"], told["dataset"], told["owner"], told["pipeline"]) == ("alert", "orders", "checkout", "shop")
    amount, email = told["alerts"]
    assert (amount["count"], amount["share"], amount["since"]) == (7, 0.007, moment(NOW - 60))
    assert email["count"] == 1
    words = shlex.split(amount["command"])
    assert words[:4] == ["sluice", "quarantine", "list", str(shop.file)]
    assert words[4:6] == ["--dataset", "orders"]
    listed = sluice(*words[1:], "--json")
    assert len(listed.json) == 7
    assert [shop.tick(600) for _ in range(3)] == [[], [], []]


def test_no_value_of_a_record_is_told_where_any_column_is_sensitive(shop: Shop) -> None:
    secret = "leak@example.com"
    shop.arrive(100, [shop.record(1, column="email", value=secret, rule="email-format-1"), shop.record(2, value="-987654")])
    shop.portal({"public.orders": {"state": "stopped", "error": f'bad value "{secret}" (-987654)\nDETAIL: {secret}'}})
    shop.lake("stopped", f"password=hunter2 Key (email)=({secret}) exists, 987654")
    told = json.dumps(
        [shop.told(), [message.payload for message in shop.book.messages()], [one.content for one in shop.book.known().values()]]
    )
    for hidden in ("leak", "987654", "hunter2", "DETAIL"):
        assert hidden not in told
    assert "amount-minimum-1 on amount" in told
    assert "the sink lake has stopped" in told
    assert not [hidden for hidden in ("leak", "987654", "hunter2") if hidden in sluice("alerts", "list", shop.file, "--json").out]


def test_what_stops_is_told_to_those_whom_it_concerns_and_so_is_that_it_goes_on(shop: Shop) -> None:
    shop.portal({"public.orders": {"state": "stopped", "error": "the column amount is gone"}, "public.customers": {"state": "streaming"}})
    shop.lake("stopped", "the disk is gone\n  hint: mend it")
    table, sink = sorted(shop.told(), key=lambda told: told["sink"] or "")
    assert (table["title"], table["owner"]) == ("orders: stopped", "checkout")
    assert table["alerts"][0]["what"] == "the table public.orders of portal has stopped: the column amount is gone"
    assert (sink["title"], sink["owner"], sink["sink"]) == ("sink lake: stopped", "ann@example.com", "lake")
    assert shlex.split(sink["alerts"][0]["command"]) == ["sluice", "status", str(shop.file)]
    shop.portal({"public.orders": {"state": "streaming", "error": None}})
    shop.lake("running")
    assert shop.tick(10) == []
    over = shop.tick(30)
    assert sorted(told["title"] for told in over) == ["orders: over: stopped", "sink lake: over: stopped"]
    for told in over:
        jsonschema.validate(told, PAYLOAD_SCHEMA)
        assert (told["kind"], told["alerts"][0]["state"]) == ("recovery", "over")
    assert shop.tick(5000) == []


def test_a_breaker_is_told_as_one_thing_not_as_a_stopped_table_too(shop: Shop) -> None:
    said = "600 of the last 10000 rows break rules that hold them back; the contract's breaker allows 0.05 of 10000"
    shop.portal({"public.orders": {"state": "stopped", "error": said}}, breakers={"orders": said})
    with closing(Audits.open(shop.pipeline.state)) as audits:
        audits.seen("orders", "breaker", "", {"message": said}, NOW)
    (told,) = shop.told()
    assert [line["kind"] for line in told["alerts"]] == ["breaker"]
    assert said in told["alerts"][0]["what"]


def test_what_the_auditor_finds_is_told_and_that_it_is_over(shop: Shop) -> None:
    with closing(Audits.open(shop.pipeline.state)) as audits:
        audits.seen("orders", "disagreement", "amount-minimum-1", {"message": "they differ on 'leak'", "count": 3}, NOW - 100)
        audits.seen("orders", "freshness", "freshness", {"message": "the newest change was committed 3 h ago; 1 h are promised"}, NOW - 50)
        audits.seen("customers", "freshness", "freshness", {"message": "of a dataset that is not audited any more"}, NOW - 50)
        (told,) = shop.told()
        jsonschema.validate(told, PAYLOAD_SCHEMA)
        assert told["title"] == "orders: incident of the auditor, not fresh"
        assert [(line["kind"], line["what"], line["count"]) for line in told["alerts"]] == [
            ("incident", "disagreement: they differ on *** (rule amount-minimum-1)", 3),
            ("freshness", "the newest change was committed 3 h ago; 1 h are promised", None),
        ]
        assert told["alerts"][1]["since"] == moment(NOW - 50)
        for kind in ("disagreement", "freshness"):
            audits.over("orders", kind, NOW)
    shop.tick(10)
    assert [told["title"] for told in shop.tick(30)] == ["orders: over: incident of the auditor, not fresh"]


def test_a_sink_that_is_behind_by_more_than_is_promised_is_told_to_the_owner_of_the_data(shop: Shop) -> None:
    (shop.folder / "orders.yaml").write_text(CONTRACT.replace("freshness, value: 1, unit: h", "latency, value: 0.0001, unit: s"))
    shop.arrive(1000, [])
    shop.lake("retrying", "away", seq=0)
    (told,) = shop.told()
    assert (told["title"], told["owner"]) == ("orders: late", "checkout")
    assert told["alerts"][0]["what"].startswith("the sink lake is behind by more than the 0.0001 s")
    with closing(JournalReader.open(shop.pipeline.state, "shop")) as reader:
        shop.lake("running", seq=reader.last_seq())
    shop.tick(10)
    assert [told["kind"] for told in shop.tick(30)] == ["recovery"]


def test_a_contract_that_breaks_what_others_rely_on_is_told_and_hides_what_it_did_until_it_is_approved(shop: Shop) -> None:
    shop.in_force(CONTRACT)
    (shop.folder / "orders.yaml").write_text(
        CONTRACT.replace(", classification: confidential", "").replace("version: 1.0.0", "version: 2.0.0")
    )
    shop.arrive(1000, [shop.record(1, column="email", value="LEAK-1", rule="email-format-1")])
    (told,) = shop.told()
    jsonschema.validate(told, PAYLOAD_SCHEMA)
    assert {line["kind"] for line in told["alerts"]} == {"quarantine", "contract"}
    contract = next(line for line in told["alerts"] if line["kind"] == "contract")
    assert contract["what"].startswith("the contract 2.0.0 waits for approval, until then 1.0.0 judges: ")
    assert "a-9" not in json.dumps(told)
    shop.in_force((shop.folder / "orders.yaml").read_text())
    shop.tick(10)
    (told,) = shop.tick(30)
    assert told["title"] == "orders: over: a new contract is not in force"
    (shop.folder / "orders.yaml").write_text("kind: nonsense")
    (told,) = shop.tick(4000)[:1] or shop.tick(30)
    assert "is not sound, so 2.0.0, which is in force, judges" in told["alerts"][0]["what"]


def test_records_that_wait_for_approval_are_told_when_they_have_waited_long(shop: Shop) -> None:
    shop.file.write_text(shop.file.read_text().replace("group_wait: 30s", "approval_after: 1h"))
    shop.pipeline = load_pipeline(shop.file, {})
    shop.restart()
    shop.arrive(1000, [structs.replace(shop.record(n), status="patched") for n in (1, 2, 3)])
    (told,) = shop.told()
    assert [line["kind"] for line in told["alerts"]] == ["quarantine"]
    assert shop.tick(3500) == []
    (told,) = shop.tick(100)
    assert [(line["kind"], line["count"]) for line in told["alerts"]] == [("approval", 3)]
    assert shlex.split(told["alerts"][0]["command"])[-2:] == ["--status", "patched"]


def test_a_journal_that_cannot_be_read_ends_no_alert_and_keeps_none_of_the_others_back(shop: Shop) -> None:
    shop.arrive(1000, [shop.record(1)])
    assert len(shop.told()) == 1
    file = shop.pipeline.state / "journal.db"
    shop.journal.close()
    shop.ended = True
    whole = file.read_bytes()
    file.write_bytes(b"not a journal" * 1000)
    shop.lake("stopped", "gone")
    shop.restart()
    assert [told["title"] for told in shop.told()] == ["sink lake: stopped"]
    file.write_bytes(whole)
    assert shop.tick(100) == []


def test_of_several_machines_the_one_tells_that_has_watched_longest(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.lake("stopped", "gone")
    others = [Folder("elsewhere", {WATCH: NOW - 100}, time.time())]
    monkeypatch.setattr(State, "elsewhere", lambda state: others)
    monkeypatch.setattr("journal.opening.catch_up", lambda pipeline: None)
    shop.pipeline = replace(shop.pipeline, journal=JournalConfig(kafka=KafkaJournal("none:1", "sluice", 1)))
    shop.restart()
    with ProcessLock(shop.pipeline.state, WATCH, "watch"):
        assert shop.told() == []
        others[0] = replace(others[0], running={WATCH: time.time() + 100})
        assert len(shop.told()) == 1
    others[0] = replace(others[0], running={WATCH: NOW - 100})
    shop.lake("running")
    assert shop.told() == []
    others.clear()
    assert len(shop.told()) == 1


def test_a_thousand_causes_are_one_message_of_a_bounded_size(shop: Shop) -> None:
    shop.arrive(1000, [shop.record(n, rule=f"rule-{n}-\n<b>" + "x" * 5000) for n in range(1, 1001)])
    (told,) = shop.told()
    jsonschema.validate(told, PAYLOAD_SCHEMA)
    assert told["title"] == "orders: 1,000 new causes in quarantine (1,000 records)"
    assert (len(told["alerts"]), told["more"]) == (20, 81)
    assert [(line["what"], line["count"]) for line in told["alerts"][:1]] == [("further causes in quarantine", 900)]
    assert len(json.dumps(told)) < 50_000
    assert shop.tick(60) == []


def test_nothing_is_told_again_after_a_restart(shop: Shop) -> None:
    shop.arrive(100, [shop.record(1)])
    assert len(shop.told()) == 1
    shop.lake("stopped", "gone")
    shop.tick(10)
    shop.restart()
    assert shop.tick(29) == []
    shop.restart()
    assert [told["title"] for told in shop.tick(1)] == ["sink lake: stopped"]
    shop.restart()
    assert shop.tick(100) == []
    assert len({posted.json["id"] for posted in shop.web.posted}) == len(shop.web.posted) == 2


def test_what_was_meant_for_a_channel_that_is_gone_is_given_up(shop: Shop) -> None:
    shop.book.decided([], [], [Message.new("chat", {}, {"version": 1, "title": "t", "kind": "alert"}, NOW)])
    shop.tick()
    (message,) = shop.book.messages()
    assert (message.sent, message.error) == (False, "the pipeline file has no channel chat any more")


def test_alerts_list_tells_what_is_open_and_what_was_sent(shop: Shop) -> None:
    shop.arrive(100, [shop.record(1)])
    shop.tick()
    first = sluice("alerts", "list", shop.file, "--json").json
    assert [(one["kind"], one["told_at"]) for one in first["open"]] == [("quarantine", None)]
    assert first["messages"] == []
    shop.tick(30)
    told = sluice("alerts", "list", shop.file, "--json").json
    assert [(one["kind"], one["count"], one["told_at"]) for one in told["open"]] == [("quarantine", 1, moment(NOW + 30))]
    (message,) = told["messages"]
    assert (message["channel"], message["state"], message["attempts"], message["error"]) == ("desk", "sent", 1, None)
    shown = sluice("alerts", "list", shop.file).out
    assert "amount-minimum-1 on amount" in shown
    assert told["open"][0]["command"] in shown
    assert "sent" in shown


def test_alerts_test_tries_each_channel_and_says_what_happened(shop: Shop) -> None:
    done = sluice("alerts", "test", shop.file)
    assert (done.code, done.out) == (0, f"desk: sent to {shop.web.url}\n")
    (posted,) = shop.web.posted
    jsonschema.validate(posted.json, PAYLOAD_SCHEMA)
    assert posted.json["kind"] == "test"
    shop.web.answers = [(500, "out of order")]
    failed = sluice("alerts", "test", shop.file, "--channel", "desk", "--json")
    assert failed.code == 1
    assert failed.json == [
        {
            "channel": "desk",
            "place": shop.web.url,
            "sent": False,
            "error": f"{shop.web.url} answers 500 Internal Server Error: out of order",
        }
    ]
    unknown = sluice("alerts", "test", shop.file, "--channel", "desc")
    assert unknown.code == 2
    assert "did you mean desk?" in unknown.err
    assert sluice("alerts", "test", shop.file, "--to", "nobody").code == 2
    shop.file.write_text(shop.file.read_text() + "    crm: {type: slack, url: 'https://a/', owners: [crm, checkout]}\n")
    assert "the channel `crm` is for the owner `crm`, whom no contract names" in sluice("check", shop.file).out
    shop.file.write_text(shop.file.read_text().partition("alerts:")[0])
    assert "names nobody to be told" in sluice("alerts", "test", shop.file).err


def test_the_example_of_the_page_is_as_its_schema_says() -> None:
    page = (Path(__file__).parents[1] / "docs" / "alerts.md").read_text("utf-8")
    jsonschema.validate(json.loads(page.split("```json\n")[1].split("```")[0]), PAYLOAD_SCHEMA)
