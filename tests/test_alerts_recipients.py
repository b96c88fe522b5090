"""Whom something is told: the owner that the contract names, by the channel that reaches them, and never nobody."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.alerts import CHANNELS, Channel
from quality.alerts.recipients import Recipient, Whose, recipients
from quality.contract import Contact

_GIVEN: dict[str, dict[str, Any]] = {
    "slack": {"url": "https://chat.example.com/x"},
    "webhook": {"url": "https://desk.example.com/x"},
    "email": {"host": "mail.example.com", "from": "sluice@example.com", "to": ["desk@example.com"]},
}


def channel(kind: str, **given: Any) -> Channel:
    return CHANNELS[kind].model_validate({**_GIVEN[kind], **given})


MAIL = channel("email")
CHAT = channel("slack")
DEFAULT = channel("webhook", default=True)
ALL = {"mail": MAIL, "chat": CHAT, "desk": DEFAULT}


def whose(*contacts: Contact, owner: str | None = "checkout", dataset: str | None = "orders", of: str | None = None) -> Whose:
    return Whose(dataset, owner, of, contacts)


@pytest.mark.parametrize(
    "who, expected",
    [
        (whose(Contact("ann@example.com", "email")), [Recipient("mail", ("ann@example.com",))]),
        (whose(Contact("ann@example.com")), [Recipient("mail", ("ann@example.com",))]),
        (whose(Contact("write to us", "email", "mailto:ann@example.com")), [Recipient("mail", ("ann@example.com",))]),
        (whose(Contact("#orders", "slack")), [Recipient("chat", room="#orders")]),
        (whose(Contact("orders", "Slack")), [Recipient("chat", room="#orders")]),
        (
            whose(Contact("#orders", "slack"), Contact("ann@example.com", "email"), Contact("bo@example.com", "email")),
            [Recipient("chat", room="#orders"), Recipient("mail", ("ann@example.com", "bo@example.com"))],
        ),
        (whose(owner="ann@example.com"), [Recipient("mail", ("ann@example.com",))]),
        (whose(of="bo@example.com"), [Recipient("mail", ("bo@example.com",))]),
        (whose(owner="ann@example.com", of="bo@example.com"), [Recipient("mail", ("ann@example.com",))]),
        (whose(), [Recipient("desk")]),
        (whose(owner=None), [Recipient("desk")]),
        (whose(Contact("https://evil.example.com/hook", "webhook", "https://evil.example.com/hook")), [Recipient("desk")]),
        (whose(Contact("Orders", "teams")), [Recipient("desk")]),
        (whose(Contact("ann@example.com\nBcc: bo@example.com", "email")), [Recipient("desk")]),
        (whose(dataset=None, owner=None, of="bo@example.com"), [Recipient("mail", ("bo@example.com",))]),
    ],
)
def test_whoever_the_contract_names_is_told_else_the_owners_else_the_default(who: Whose, expected: list[Recipient]) -> None:
    assert recipients(who, ALL) == expected


def test_a_channel_for_some_datasets_or_owners_gets_what_concerns_them_and_nothing_else() -> None:
    bound = {**ALL, "team": channel("slack", owners=["checkout"]), "pager": channel("webhook", datasets=["orders"], owners=["checkout"])}
    assert recipients(whose(), bound) == [Recipient("team"), Recipient("pager")]
    assert recipients(whose(dataset="customers"), bound) == [Recipient("team")]
    assert recipients(whose(owner="crm"), bound) == [Recipient("desk")]
    assert recipients(whose(owner=None, of="checkout"), bound) == [Recipient("team"), Recipient("pager")]
    assert recipients(whose(dataset=None, owner=None, of="checkout"), bound) == [Recipient("team")]


def test_a_channel_for_others_carries_nobodys_mail() -> None:
    others = {"crm": channel("email", owners=["crm"]), "desk": DEFAULT}
    assert recipients(whose(Contact("ann@example.com", "email")), others) == [Recipient("desk")]


def test_mail_of_a_channel_for_a_team_goes_to_the_addresses_of_the_contract_and_else_to_its_own() -> None:
    team = {"team": channel("email", owners=["checkout"]), "desk": DEFAULT}
    assert recipients(whose(), team) == [Recipient("team", ("desk@example.com",))]
    assert recipients(whose(Contact("ann@example.com", "email")), team) == [Recipient("team", ("ann@example.com",))]


def test_a_webhook_that_leads_to_one_room_is_for_that_room() -> None:
    rooms = {"a": channel("slack", channel="#billing"), "b": channel("slack", channel="Orders"), "desk": DEFAULT}
    assert recipients(whose(Contact("#orders", "slack")), rooms) == [Recipient("b", room="#orders")]
    assert recipients(whose(Contact("#sales", "slack")), rooms) == [Recipient("desk")]


def test_a_default_channel_for_mail_reaches_those_whom_it_names() -> None:
    assert recipients(whose(), {"mail": channel("email", default=True)}) == [Recipient("mail", ("desk@example.com",))]
    one = {"mail": channel("email", default=True)}
    assert recipients(whose(Contact("ann@example.com", "email")), one) == [Recipient("mail", ("ann@example.com",))]
