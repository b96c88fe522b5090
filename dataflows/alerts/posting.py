"""Sends messages over HTTP: to webhooks as they are, signed, and to incoming webhooks of Slack."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any

import httpx

from dataflows.alerts.carrying import AwayError
from journal.alerting import Message
from pipeline.alerts import HttpChannel, SlackChannel, WebhookChannel
from pipeline.errors import Refused
from pipeline.redact import redact
from quality.alerts.chat import chat_message
from quality.alerts.payload import clean

_PREFIX = "whsec_"
_NO_ROOM = frozenset({403, 404, 410})
_AGAIN = _NO_ROOM | {401, 407, 408, 409, 425, 429}
"""Codes that say nothing against this message: somebody has to mend the channel, or it is busy."""
_MOST_SAID = 300  # bytes of an answer


def post_webhook(channel: WebhookChannel, message: Message) -> str | None:
    """Posts the payload as JSON. Raises AwayError, or Refused where this message will never be taken."""
    body = json.dumps(message.payload, ensure_ascii=False).encode()
    headers = {name: value.get_secret_value() for name, value in channel.headers.items()}
    headers |= {"Idempotency-Key": message.id, "webhook-id": message.id}
    if channel.secret is not None:
        headers |= signature(channel.secret.get_secret_value(), message.id, int(time.time()), body)
    _post(channel, body, headers)
    return None


def post_chat(channel: SlackChannel, message: Message) -> str | None:
    """The same for what takes Slack's messages. Returns what was wrong all the same: where the room that a contract names is not known
    behind the webhook, the message goes where the webhook leads."""
    room = message.target.get("room")
    try:
        _post(channel, json.dumps(chat_message(message.payload, room)).encode(), {})
    except (AwayError, Refused) as error:
        if room is None or not isinstance(error, _NoSuchRoomError | Refused):
            raise
        _post(channel, json.dumps(chat_message(message.payload)).encode(), {})
        return f"{clean(room)} is not known there: sent to the webhook's own channel"
    return None


def signature(secret: str, number: str, seconds: int, body: bytes) -> Mapping[str, str]:
    """Headers by which a service knows who has sent a message, and when: those of https://www.standardwebhooks.com.

    A secret that begins with `whsec_` goes on in base64; any other is taken as it stands.
    """
    key = secret.encode()
    if secret.startswith(_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            key = secret.encode()
    digest = hmac.new(key, f"{number}.{seconds}.".encode() + body, hashlib.sha256).digest()
    return {"webhook-timestamp": str(seconds), "webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}


class _NoSuchRoomError(AwayError):
    """Nothing is there, or nobody may write there: perhaps only in the room that was asked for."""


def _post(channel: HttpChannel, body: bytes, headers: Mapping[str, str]) -> None:
    """Redirects are not followed: what is secret goes to no other place."""
    content = {"Content-Type": "application/json", "User-Agent": "sluice", **headers}
    verify: Any = True
    try:
        if channel.ca is not None:
            verify = ssl.create_default_context(cafile=str(channel.ca))
        with (
            httpx.Client(timeout=channel.timeout, verify=verify) as client,
            client.stream("POST", channel.url.get_secret_value(), content=body, headers=content) as answer,
        ):
            if not answer.is_success:
                said = next(answer.iter_raw(_MOST_SAID), b"").decode("utf-8", "replace")
                raise _refusal(channel, answer, said)
    except httpx.InvalidURL:
        raise AwayError(f"{channel.place}: the address is none") from None
    except httpx.HTTPError as error:  # its text is not told whole: it may hold the address
        raise AwayError(f"{channel.place} cannot be reached: {type(error).__name__}{_reason(channel, error)}") from None
    except OSError as error:
        raise AwayError(f"the certificates for {channel.place} cannot be used: {error.strerror or type(error).__name__}") from error


def _reason(channel: HttpChannel, error: httpx.HTTPError) -> str:
    said = str(error)
    return "" if not said or any(part in said for part in channel.url.get_secret_value().split("/")[3:] if part) else f": {clean(said)}"


def _refusal(channel: HttpChannel, answer: httpx.Response, said: str) -> AwayError | Refused:
    message = f"{channel.place} answers {answer.status_code} {clean(answer.reason_phrase)}" + (f": {clean(redact(said))}" if said else "")
    if answer.status_code in _NO_ROOM:
        return _NoSuchRoomError(message)
    if answer.is_server_error or answer.is_redirect or answer.status_code in _AGAIN:
        return AwayError(message, after=_after(answer))
    return Refused(message)


def _after(answer: httpx.Response) -> float | None:
    """Seconds that a busy server asks to be left alone."""
    told = answer.headers.get("Retry-After", "")
    return float(told) if told.isdecimal() and len(told) < 6 else None
