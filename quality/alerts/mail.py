"""A message as mail: plain text, and the same as simple HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from html import escape
from typing import Any

from quality.alerts.payload import clean
from quality.alerts.wording import context, facts, heading, plain, rest, subject

_LONGEST_SUBJECT = 200
_STYLE = "font-family:system-ui,sans-serif;color:#1a1a1a;background:#ffffff;max-width:44rem;line-height:1.4"
_CODE = "background:#f2f2f2;padding:.5rem .75rem;white-space:pre-wrap;overflow-wrap:anywhere"


def mail(payload: Mapping[str, Any], sender: str, to: Sequence[str]) -> EmailMessage:
    """The whole message. Its Message-ID is made of the payload's id, so that one that is sent twice can be known for the same."""
    message = EmailMessage(policy=SMTP)
    message["From"] = Address(f"Sluice {payload['pipeline']}", addr_spec=sender)
    message["To"] = [Address(addr_spec=address) for address in to]
    message["Subject"] = clean(subject(payload), _LONGEST_SUBJECT)
    message["Date"] = datetime.fromisoformat(payload["at"])
    message["Message-ID"] = f"<{payload['id']}@{_domain(sender)}>"
    message["Auto-Submitted"] = "auto-generated"  # https://www.rfc-editor.org/rfc/rfc3834: no machine answers it
    message.set_content(plain(payload))
    message.add_alternative(_page(payload), subtype="html")
    return message


def _domain(sender: str) -> str:
    domain = sender.rpartition("@")[2]
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return "sluice.invalid"


def _page(payload: Mapping[str, Any]) -> str:
    parts = [f'<div style="{_STYLE}">', f"<h2>{escape(payload['title'])}</h2>"]
    for line in payload["alerts"]:
        said = "".join(f"<li>{escape(fact)}</li>" for fact in facts(line))
        parts.append(f'<p><strong>{escape(heading(line))}</strong></p><ul>{said}</ul><pre style="{_CODE}">{escape(line["command"])}</pre>')
    left = rest(payload)
    if left is not None:
        parts.append(f"<p>{escape(left)}</p>")
    rows = "".join(f'<tr><th scope="row" align="left">{name}</th><td>{escape(value)}</td></tr>' for name, value in context(payload))
    body = "\n".join([*parts, f"<table>{rows}</table>", "</div>"])
    head = f'<head><meta charset="utf-8"><title>{escape(payload["title"])}</title></head>'
    return f'<!DOCTYPE html>\n<html lang="en">{head}<body>\n{body}\n</body></html>\n'
