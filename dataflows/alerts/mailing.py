"""Sends messages by mail."""

from __future__ import annotations

import smtplib
import ssl

from dataflows.alerts.carrying import AwayError
from journal.alerting import Message
from pipeline.alerts import EmailChannel
from pipeline.errors import Refused
from quality.alerts.mail import mail
from quality.alerts.payload import clean

_NEVER = range(500, 600)  # https://www.rfc-editor.org/rfc/rfc5321#section-4.2.1


def post_mail(channel: EmailChannel, message: Message) -> str | None:
    """Sends a message. Returns who did not get it, where others did. Raises AwayError, or Refused where this will never be taken."""
    to = message.target.get("to") or list(channel.to)
    if not to:
        raise Refused("nobody is named whom the mail could go to", hint="write `to` in the channel; a test takes --to")
    letter = mail(message.payload, channel.from_, to)
    try:
        with _connected(channel) as server:
            refused = server.send_message(letter, channel.from_, to)
    except smtplib.SMTPRecipientsRefused as error:
        if all(code in _NEVER for code, _ in error.recipients.values()):
            raise Refused(f"{channel.place} takes mail for none of {_listed(error.recipients)}") from error
        raise AwayError(f"{channel.place} takes no mail for {_listed(error.recipients)} just now") from error
    except smtplib.SMTPDataError as error:
        if error.smtp_code in _NEVER:
            raise Refused(f"{channel.place} refuses the message: {_said(error)}") from error
        raise AwayError(f"{channel.place} does not take the message just now: {_said(error)}") from error
    except smtplib.SMTPAuthenticationError as error:
        raise AwayError(
            f"{channel.place} does not let {channel.username} in: {error.smtp_code}"
        ) from None  # its text may tell the password
    except smtplib.SMTPResponseException as error:
        raise AwayError(f"{channel.place} answers {_said(error)}") from error
    except smtplib.SMTPNotSupportedError as error:
        raise AwayError(f"{channel.place} cannot do what is asked of it: {clean(str(error))}") from error
    except ssl.SSLError as error:
        raise AwayError(f"{channel.place} cannot be trusted or understood: {clean(error.reason or str(error))}") from error
    except (OSError, smtplib.SMTPException) as error:
        raise AwayError(f"{channel.place} cannot be reached: {clean(str(error) or type(error).__name__)}") from error
    return f"{channel.place} takes no mail for {_listed(refused)}" if refused else None


def _connected(channel: EmailChannel) -> smtplib.SMTP:
    """A server that knows us. Without the encryption that is asked for nothing is said."""
    context = ssl.create_default_context(cafile=None if channel.ca is None else str(channel.ca))
    server: smtplib.SMTP
    if channel.tls == "implicit":
        server = smtplib.SMTP_SSL(channel.host, channel.reached_at, timeout=channel.timeout, context=context)
    else:
        server = smtplib.SMTP(channel.host, channel.reached_at, timeout=channel.timeout)
    try:
        if channel.tls == "starttls":
            server.starttls(context=context)
        if channel.username is not None and channel.password is not None:
            server.login(channel.username, channel.password.get_secret_value())
    except BaseException:
        server.close()
        raise
    return server


def _said(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else str(error.smtp_error)
    return clean(f"{error.smtp_code} {text}")


def _listed(refused: dict[str, tuple[int, bytes]]) -> str:
    return ", ".join(f"{address} ({code})" for address, (code, _) in refused.items())
