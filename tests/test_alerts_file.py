"""The block `alerts` of a pipeline file: whom trouble is told, with every mistake named and nothing that is secret repeated."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from pipeline.alerts import EmailChannel, SlackChannel, WebhookChannel, is_address
from pipeline.editor_schema import editor_schema
from pipeline.errors import ConfigError
from pipeline.load import load_pipeline
from pipeline.model import Pipeline

_HEAD = """\
pipeline: shop
sources:
  portal: {type: postgres, dsn: "host=db dbname=shop", tables: [public.orders, public.customers]}
sinks:
  warehouse: {type: duckdb, path: w.duckdb}
alerts:
"""
_CHAT = "  channels:\n    chat: {type: slack, url: 'https://chat.example.com/T0/xyzzy', default: true}\n"


def _load(folder: Path, text: str, **environment: str) -> Pipeline:
    file = folder / "pipeline.yaml"
    file.write_text(_HEAD + text, "utf-8")
    return load_pipeline(file, environment)


def _said(folder: Path, text: str, **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(folder, text, **environment)
    assert all(problem.line for problem in caught.value.problems)
    return "\n".join(f"{problem.message} ({problem.hint})" for problem in caught.value.problems)


def test_channels_of_every_kind_are_read_with_their_secrets_from_the_environment(tmp_path: Path) -> None:
    text = """\
  cool_down: 2h
  repeat: 1d
  channels:
    chat: {type: slack, url: "${CHAT}", owners: checkout}
    mail:
      {type: email, host: mail.example.com, username: sluice, password: "${MAIL}", from: s@example.com, to: ann@example.com, default: true}
    desk:
      type: webhook
      url: https://desk.example.com/in
      headers: {Authorization: "Bearer ${DESK}"}
      secret: ${SIGN}
      ca: ca.pem
      datasets: [orders]
"""
    secrets = {"CHAT": "https://chat.example.com/T0/xyzzy", "MAIL": "hunter2", "DESK": "t0ken", "SIGN": "whsec_abc"}
    pipeline = _load(tmp_path, text, **secrets)
    alerts = pipeline.alerts
    assert alerts is not None
    assert (alerts.cool_down, alerts.group_wait, alerts.repeat, alerts.approval_after) == (7200, 30, 86400, None)
    chat, mail, desk = alerts.channels.values()
    assert isinstance(chat, SlackChannel)
    assert isinstance(mail, EmailChannel)
    assert isinstance(desk, WebhookChannel)
    assert chat.owners == ["checkout"]
    assert (mail.tls, mail.reached_at, mail.place) == ("starttls", 587, "mail.example.com:587")
    assert desk.ca == tmp_path / "ca.pem"
    assert (chat.place, desk.place) == ("https://chat.example.com", "https://desk.example.com")
    assert not [secret for secret in ("xyzzy", "hunter2", "t0ken", "whsec_abc") if secret in repr(pipeline) + str(alerts)]


def test_without_the_block_nobody_is_told(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(_HEAD.replace("alerts:\n", ""))
    assert load_pipeline(tmp_path / "pipeline.yaml", {}).alerts is None


@pytest.mark.parametrize(
    "text, expected",
    [
        ("  chanels: {}\n", "unknown key `chanels` in `alerts` (did you mean channels?)"),
        ("  channels: {}\n", "`alerts.channels` is empty"),
        (_CHAT + "  cooldown: 1h\n", "did you mean cool_down?"),
        (_CHAT + "  repeat: 1s\n", "`alerts.repeat`"),
        (_CHAT + "  group_wait: 2d\n", "`alerts.group_wait`"),
        (_CHAT.replace("slack", "slak"), "unknown type `slak` (did you mean slack?)"),
        (_CHAT.replace("type: slack, ", ""), "`alerts.channels.chat` has no `type`"),
        (_CHAT.replace(", default: true", ""), "would reach nobody"),
        (_CHAT.replace("default", "owners: [checkout], default"), "or it is the `default`"),
        (_CHAT.replace("default", "defualt"), "did you mean default?"),
        (_CHAT.replace("default: true", "datasets: [order]"), "not a dataset (did you mean orders?)"),
        ("  channels: {chat: 'https://chat.example.com/xyzzy'}\n", "is not a block of keys"),
    ],
)
def test_a_mistake_is_named_with_what_was_meant(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in _said(tmp_path, text)


@pytest.mark.parametrize(
    "url", ["xyzzy", "ftp://xyzzy/", "https:///xyzzy", "https://[xyzzy", "https://host:xyzzy/", "https://host/xyz\nzy"]
)
def test_an_address_that_is_none_is_not_repeated(tmp_path: Path, url: str) -> None:
    said = _said(tmp_path, '  channels:\n    desk: {type: webhook, url: "${URL}", default: true}\n', URL=url)
    assert "the address of a channel is https://HOST/PATH" in said
    assert "xyz" not in said


@pytest.mark.parametrize(
    "header, expected", [("'X Y': a", "no header of HTTP"), ('X: "a\\r\\nB: c"', "no header of HTTP"), ("webhook-ID: a", "is set already")]
)
def test_a_header_that_would_become_two_is_refused(tmp_path: Path, header: str, expected: str) -> None:
    text = f"  channels:\n    desk: {{type: webhook, url: 'https://a/', default: true, headers: {{{header}}}}}\n"
    assert expected in _said(tmp_path, text)


@pytest.mark.parametrize(
    "changed, expected",
    [
        ("from: 'ann@example.com, bo@example.com'", "an address is NAME@DOMAIN"),
        ('from: "ann@example.com\\nBcc: bo@example.com"', "an address is NAME@DOMAIN"),
        ("to: [ann]", "an address is NAME@DOMAIN"),
        ("to: [ann@example.com, ann@example.com]", "there twice"),
        ("to: []", "it needs `to`"),
        ("username: ann", "go together"),
        ("username: ann, password: hunter2, tls: none", "readable for everybody"),
        ("port: 70000", "`alerts.channels.mail.port`"),
        ("tls: starttl", "did you mean starttls?"),
    ],
)
def test_mail_that_could_not_be_sent_is_refused_when_the_file_is_read(tmp_path: Path, changed: str, expected: str) -> None:
    keys = {"host": "mail.example.com", "from": "sluice@example.com", "to": "[ann@example.com]", "default": "true"}
    written = ", ".join(f"{key}: {value}" for key, value in keys.items() if key != changed.partition(":")[0])
    said = _said(tmp_path, f"  channels:\n    mail: {{type: email, {written}, {changed}}}\n")
    assert expected in said
    assert "hunter2" not in said


def test_a_password_may_go_unencrypted_to_this_machine(tmp_path: Path) -> None:
    mail = "type: email, from: a@example.com, to: b@example.com, default: true, tls: none, username: a, password: b"
    for host in ("localhost", "127.0.0.1", "'::1'"):
        _load(tmp_path, f"  channels:\n    mail: {{{mail}, host: {host}}}\n")


@pytest.mark.parametrize(
    "text", ["a@b c", "a@b\n", "a@b\r\nBcc: c@d", "<a@b>", "a", "@b", "a@", "a@b@c", "a@b,c@d", "\u202ea@b", "a" * 65 + "@b"]
)
def test_what_is_no_single_address_is_none(text: str) -> None:
    assert not is_address(text)
    assert is_address("ann@example.com")
    assert is_address("jörg@bücher.example")


def test_editors_know_the_keys_of_each_kind_of_channel() -> None:
    schema = editor_schema()
    alerts = schema["$defs"]["AlertsBlock"]
    kinds = alerts["properties"]["channels"]["additionalProperties"]["properties"]["type"]["enum"]
    assert kinds == ["email", "slack", "webhook"]
    validator = jsonschema.Draft202012Validator(schema)
    file = {"pipeline": "shop", "sources": {"p": {"type": "postgres", "dsn": "", "tables": ["a"]}}}
    file["sinks"] = {"w": {"type": "duckdb", "path": "w"}}
    sound = {"channels": {"chat": {"type": "slack", "url": "${CHAT}", "default": True}}}
    assert validator.is_valid({**file, "alerts": sound})
    assert not validator.is_valid({**file, "alerts": {**sound, "cooldown": 1}})
    assert not validator.is_valid({**file, "alerts": {"channels": {"chat": {"type": "slack", "host": "a", "url": "${CHAT}"}}}})


def test_the_example_of_the_page_loads(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "alerts.md").read_text("utf-8")
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "orders.odcs.yaml").write_text("kind: DataContract\n")
    (tmp_path / "pipeline.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], "utf-8")
    names = ("CHAT_URL", "PAGER_URL", "PAGER_TOKEN", "PAGER_SECRET", "MAIL_PASSWORD")
    given = {name: f"https://{name.lower()}.example.com" for name in names}
    pipeline = load_pipeline(tmp_path / "pipeline.yaml", {**given, "PORTAL_DSN": "host=a"})
    assert pipeline.alerts is not None
    assert list(pipeline.alerts.channels) == ["chat", "mail", "pager"]
