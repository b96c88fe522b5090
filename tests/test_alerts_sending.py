"""Messages reach webhooks, chats and mailboxes as they were meant, signed and encrypted; what cannot be sent is told apart."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dataflows.alerts.carrying import AwayError
from dataflows.alerts.channels import sending
from journal.alerting import Message
from pipeline.alerts import CHANNELS, Channel
from pipeline.errors import Refused
from quality.alerts.conditions import Condition, Kind, Subject
from quality.alerts.deciding import Line, Notice
from quality.alerts.payload import payload
from quality.alerts.recipients import Whose
from tests.http_inbox import Inbox, inbox
from tests.mail_inbox import MailInbox, certificate, mail_inbox

NOW = 1_700_000_000.0
SECRET = "xyzzy"


def message(*, target: Mapping[str, Any] | None = None, name: str = "orders") -> Message:
    condition = Condition("k", Kind.CAUSE, Subject(name), 'rule <a> & "b" ünïcode', NOW - 60, "sluice status 'a b.yaml'", 8312, 100_000)
    notice = Notice(Subject(name), [Line(condition, held=2)])
    told = payload(notice, Whose(name, "checkout"), "shop", NOW)
    return Message.new("it", target or {}, told, NOW)


def channel(kind: str, **given: Any) -> Channel:
    return CHANNELS[kind].model_validate(given)


@pytest.fixture
def web() -> Iterator[Inbox]:
    with inbox() as made:
        yield made


@pytest.fixture
def post() -> Iterator[MailInbox]:
    with mail_inbox() as made:
        yield made


def webhook(web: Inbox, **given: Any) -> Channel:
    return channel("webhook", url=f"{web.url}/{SECRET}", **given)


def mail(post: MailInbox, **given: Any) -> Channel:
    place = {"host": "127.0.0.1", "port": post.port, "from": "sluice@example.com", "to": ["ann@example.com"], "tls": "none"}
    return channel("email", **{**place, **given})


def test_a_webhook_gets_the_payload_with_an_id_that_stays_and_a_signature(web: Inbox) -> None:
    sent = message()
    for _ in range(2):
        assert sending(webhook(web, headers={"Authorization": "Bearer t0ken"}, secret="whsec_c2VjcmV0"))(sent) is None
    first, second = web.posted
    assert first.json == sent.payload
    assert first.path == f"/{SECRET}"
    assert first.headers["authorization"] == "Bearer t0ken"
    assert first.headers["content-type"] == "application/json"
    for posted in (first, second):
        assert posted.json["id"] == posted.headers["webhook-id"] == posted.headers["idempotency-key"] == sent.id
        signed = f"{sent.id}.{posted.headers['webhook-timestamp']}.".encode() + posted.body
        expected = base64.b64encode(hmac.new(b"secret", signed, hashlib.sha256).digest()).decode()
        assert posted.headers["webhook-signature"] == f"v1,{expected}"


def test_a_secret_that_is_not_in_base64_is_taken_as_it_stands(web: Inbox) -> None:
    sending(webhook(web, secret="pässword"))(message())
    (posted,) = web.posted
    signed = f"{posted.headers['webhook-id']}.{posted.headers['webhook-timestamp']}.".encode() + posted.body
    expected = base64.b64encode(hmac.new("pässword".encode(), signed, hashlib.sha256).digest()).decode()
    assert posted.headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 429, 500, 503])
def test_a_channel_that_does_not_take_messages_now_is_away(web: Inbox, status: int) -> None:
    web.answers = [(status, "come back later")]
    web.headers = {"Retry-After": "7", "Location": "http://127.0.0.1:1/elsewhere"}
    with pytest.raises(AwayError) as caught:
        sending(webhook(web))(message())
    assert f"answers {status}" in caught.value.message
    assert "come back later" in caught.value.message
    assert SECRET not in str(caught.value)
    assert caught.value.after == (None if status in (403, 404) else 7)
    assert len(web.posted) == 1


def test_a_message_that_will_never_be_taken_is_refused(web: Inbox) -> None:
    web.answers = [(400, "not\nso"), (413, "password=hunter2 too large")]
    with pytest.raises(Refused, match=r"answers 400 Bad Request: not\\nso"):
        sending(webhook(web))(message())
    with pytest.raises(Refused) as caught:
        sending(webhook(web))(message())
    assert "hunter2" not in caught.value.message


def test_a_server_that_hangs_or_is_gone_is_away_and_its_address_is_not_told(web: Inbox) -> None:
    web.hanging.set()
    with pytest.raises(AwayError, match="ReadTimeout") as hung:
        sending(webhook(web, timeout=0.1))(message())
    with pytest.raises(AwayError, match="ConnectError") as gone:
        sending(channel("webhook", url=f"http://127.0.0.1:1/{SECRET}"))(message())
    with pytest.raises(AwayError) as unknown:
        sending(channel("slack", url=f"https://ann:{SECRET}@[::1]:1/{SECRET}", ca="/no/such/file"))(message())
    assert not [error for error in (hung, gone, unknown) if SECRET in str(error.value)]


def test_a_chat_gets_text_and_blocks_in_the_room_that_the_contract_names(web: Inbox) -> None:
    assert sending(channel("slack", url=web.url))(message(target={"room": "#orders"})) is None
    (posted,) = web.posted
    told = posted.json
    assert told["channel"] == "#orders"
    assert "rule &lt;a&gt; &amp;" in told["text"]
    assert told["blocks"][0]["text"]["text"] == "[shop] orders: new cause in quarantine (8,312 records)"
    assert any("sluice status 'a b.yaml'" in str(block) for block in told["blocks"])


def test_a_room_that_is_not_known_loses_no_message(web: Inbox) -> None:
    web.answers = [(404, "channel_not_found")]
    note = sending(channel("slack", url=web.url))(message(target={"room": "#gone"}))
    assert note == "#gone is not known there: sent to the webhook's own channel"
    assert [posted.json.get("channel") for posted in web.posted] == ["#gone", None]
    web.answers = [(404, "no_service"), (404, "no_service")]
    with pytest.raises(AwayError, match="no_service"):
        sending(channel("slack", url=web.url))(message(target={"room": "#gone"}))
    web.answers = [(503, "busy")]
    with pytest.raises(AwayError, match="busy"):
        sending(channel("slack", url=web.url))(message(target={"room": "#orders"}))
    assert not web.answers


def test_mail_goes_out_as_text_and_as_html_with_an_id_that_stays(post: MailInbox) -> None:
    sent = message(target={"to": ["ann@example.com", "bo@example.com"]})
    assert sending(mail(post))(sent) is None
    (letter,) = post.letters
    assert (letter.sender, letter.to) == ("sluice@example.com", ["ann@example.com", "bo@example.com"])
    head = letter.message
    assert head["Subject"] == "[shop] orders: new cause in quarantine (8,312 records)"
    assert head["Message-ID"] == f"<{sent.id}@example.com>"
    assert head["From"] == "Sluice shop <sluice@example.com>"
    assert head["Auto-Submitted"] == "auto-generated"
    plain, html = letter.part("plain"), letter.part("html")
    for said in ("8,312 records, 8.3 % of what came since", "since 2023-11-14T22:12:20Z", "came and went 2 times", "owner", "checkout"):
        assert said in plain
        assert said in html
    assert 'rule <a> & "b" ünïcode' in plain
    assert "rule &lt;a&gt; &amp; &quot;b&quot; ünïcode" in html
    assert "sluice status 'a b.yaml'" in plain


@pytest.mark.parametrize(
    "name", ["orders\r\nBcc: bo@example.com", "a\nb\u2028c\u202e", "ünï" * 200, "=?utf-8?q?x?=", "\ud800", "x" * 100_000]
)
def test_no_name_becomes_a_header_or_breaks_a_message(post: MailInbox, web: Inbox, name: str) -> None:
    sent = message(name=name)
    sending(mail(post))(sent)
    sending(webhook(web))(sent)
    sending(channel("slack", url=web.url))(sent)
    (letter,) = post.letters
    assert letter.to == ["ann@example.com"]
    assert letter.message["Bcc"] is None
    assert "\n" not in letter.message["Subject"]
    assert letter.message["Subject"].strip().startswith("[shop] ")
    assert len(letter.raw) < 20_000
    assert web.posted[1].json["blocks"][0]["type"] == "header"


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_mail_is_encrypted_before_anything_is_said(tmp_path: Path, tls: str) -> None:
    file = certificate(tmp_path)
    known = {"tls": tls, "ca": file, "username": "sluice"}
    with mail_inbox(tls, file, login=True) as post:
        assert sending(mail(post, **known, password="hunter2"))(message()) is None
        assert post.logins == [("sluice", "hunter2")]
        with pytest.raises(AwayError, match=r"does not let sluice in: 535") as refused:
            sending(mail(post, **known, password=SECRET))(message())
        assert SECRET not in str(refused.value)
        with pytest.raises(AwayError, match="cannot be trusted"):
            sending(mail(post, tls=tls, username="sluice", password="hunter2"))(message())
        assert post.logins.count(("sluice", "hunter2")) == 1
    assert len(post.letters) == 1


def test_a_server_without_encryption_gets_neither_password_nor_mail(post: MailInbox) -> None:
    with pytest.raises(AwayError, match="STARTTLS"):
        sending(mail(post, tls="starttls", username="sluice", password="hunter2"))(message())
    with pytest.raises(AwayError, match="cannot be trusted or understood"):
        sending(mail(post, tls="implicit"))(message())
    assert not post.letters
    assert not post.logins


def test_one_address_that_is_refused_keeps_no_mail_from_the_others(post: MailInbox) -> None:
    post.refused = {"bo@example.com": "550 no such user"}
    both = message(target={"to": ["ann@example.com", "bo@example.com"]})
    note = sending(mail(post))(both)
    assert note is not None
    assert note.endswith("takes no mail for bo@example.com (550)")
    assert [letter.to for letter in post.letters] == [["ann@example.com"]]
    with pytest.raises(Refused, match=r"takes mail for none of bo@example\.com"):
        sending(mail(post))(message(target={"to": ["bo@example.com"]}))
    post.refused = {"bo@example.com": "451 come back later"}
    with pytest.raises(AwayError, match="just now"):
        sending(mail(post))(message(target={"to": ["bo@example.com"]}))


def test_a_mail_server_that_is_busy_is_away_and_one_that_refuses_a_message_is_believed(post: MailInbox) -> None:
    post.answers = ["451 busy", "554 spam"]
    with pytest.raises(AwayError, match="451 busy"):
        sending(mail(post))(message())
    with pytest.raises(Refused, match="554 spam"):
        sending(mail(post))(message())
    with pytest.raises(AwayError, match="cannot be reached"):
        sending(mail(post, port=1))(message())
    with pytest.raises(Refused, match="nobody is named"):
        sending(mail(post, to=[]))(message())
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(AwayError, match="timed out"):
        sending(mail(post, port=silent.getsockname()[1], timeout=0.1))(message())
