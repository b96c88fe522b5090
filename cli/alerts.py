"""`alerts`: what owners were told, and whether a channel works."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.loading import loading
from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.styles import LogFormat
from pipeline.errors import EXIT_NO, ConfigError

if TYPE_CHECKING:
    from journal.alerting import Kept, Message
    from pipeline.alerts import Alerts
    from pipeline.model import Pipeline

alerts = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_SHOWN = 20


@alerts.callback()
def _alerts() -> None:
    """Tells what owners were told of, and tries the channels by which they are told.

    \b
    Examples:
      sluice alerts list pipeline.yaml
      sluice alerts test pipeline.yaml --channel team-chat
    """


@alerts.command("list")
def list_(file: PipelineFile, json: AsJson = False, verbose: Verbose = False, log_format: Log = LogFormat.console) -> None:
    """Lists what is wrong now, as far as owners are told of it, and the messages that were sent, or are still to be.

    Works whether or not the service runs. With --json all messages of the last 30 days, else the newest.

    \b
    Example:
      sluice alerts list pipeline.yaml --json
    """
    speak(verbose, log_format)
    with loading():
        from cli.answers import answer_json
        from journal.alerting import AlertBook
        from journal.opening import catch_up
        from pipeline.load import load_pipeline

        pipeline = load_pipeline(file)
    catch_up(pipeline)
    with closing(AlertBook.open(pipeline.state)) as book:
        open_ = [_open(one) for one in book.known().values() if one.phase != "over"]
        messages = [_message(one) for one in book.messages()]
    open_.sort(key=lambda one: (one["since"], one["key"]))
    if json:
        answer_json({"pipeline": pipeline.name, "open": open_, "messages": messages})
    else:
        _show(open_, messages, pipeline.alerts is not None)


@alerts.command("test")
def try_(
    file: PipelineFile,
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="NAME", help="Only this channel; else all of them.", show_default=False)
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="ADDRESS", help="Of mail: who gets it; else whom the channel names.", show_default=False)
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    log_format: Log = LogFormat.console,
) -> None:
    """Sends a test message by each channel, and says what became of it. Exit code 1 when one could not be sent.

    \b
    Examples:
      sluice alerts test pipeline.yaml
      sluice alerts test pipeline.yaml --channel mail --to ann@example.com
    """
    speak(verbose, log_format)
    with loading():
        from cli.answers import answer_json, answer_line, printable
        from pipeline.load import load_pipeline

        pipeline = load_pipeline(file)
        wanted = _wanted(pipeline, channel)
        answers = [_tried(pipeline, wanted, name, to) for name in ([channel] if channel is not None else wanted.channels)]
    if json:
        answer_json(answers)
    else:
        for one in answers:
            said = f"sent to {one['place']}" if one["sent"] else "not sent"
            answer_line(printable(f"{one['channel']}: {said}" + (f": {one['error']}" if one["error"] else "")))
    raise typer.Exit(0 if all(one["sent"] for one in answers) else EXIT_NO)


def _wanted(pipeline: Pipeline, channel: str | None) -> Alerts:
    from pipeline.names import nearest

    if pipeline.alerts is None:
        raise ConfigError(f"{pipeline.name} names nobody to be told", hint="write `alerts` in the pipeline file: see docs/alerts.md")
    if channel is not None and channel not in pipeline.alerts.channels:
        raise ConfigError(f"there is no channel `{channel}` in {pipeline.name}", hint=nearest(channel, pipeline.alerts.channels))
    return pipeline.alerts


def _tried(pipeline: Pipeline, wanted: Alerts, name: str, to: str | None) -> dict[str, Any]:
    """What became of a test message."""
    import time

    from dataflows.alerts.carrying import AwayError
    from dataflows.alerts.channels import sending
    from journal.alerting import Message
    from pipeline.errors import Refused
    from quality.alerts.discreet import command
    from quality.alerts.payload import trial

    channel, now = wanted.channels[name], time.time()
    shown = command("sluice", "alerts", "list", str(pipeline.file))
    target = {"to": [] if to is None else [_address(to)]}
    message = Message.new(name, target, trial(pipeline.name, name, shown, now), now)
    told: dict[str, Any] = {"channel": name, "place": channel.place, "sent": False, "error": None}
    try:
        return told | {"sent": True, "error": sending(channel)(message)}
    except (AwayError, Refused) as error:
        return told | {"error": error.message if error.hint is None else f"{error.message}: {error.hint}"}


def _address(text: str) -> str:
    from pipeline.alerts import is_address

    if not is_address(text):
        raise ConfigError(f"{text!r} is not an address", hint="write NAME@DOMAIN")
    return text


def _open(kept: Kept) -> dict[str, Any]:
    from quality.alerts.conditions import decoded
    from quality.alerts.payload import moment

    condition = decoded(kept.content)
    subject = condition.subject
    return {
        "key": kept.key,
        "kind": condition.kind.value,
        "dataset": subject.dataset,
        "sink": subject.sink,
        "source": subject.source,
        "what": condition.what,
        "since": moment(condition.since),
        "count": condition.count,
        "told_at": moment(kept.told_at) if kept.phase == "told" and kept.told_at is not None else None,
        "held_back": kept.held,
        "command": condition.command,
    }


def _message(message: Message) -> dict[str, Any]:
    from quality.alerts.payload import moment

    state = "waiting" if message.ended_at is None else "sent" if message.sent else "given up"
    return {
        "id": message.id,
        "channel": message.channel,
        "to": list(message.target.get("to") or ()),
        "room": message.target.get("room"),
        "kind": message.payload["kind"],
        "title": message.payload["title"],
        "created_at": moment(message.created_at),
        "state": state,
        "ended_at": None if message.ended_at is None else moment(message.ended_at),
        "attempts": message.attempts,
        "error": message.error,
    }


def _show(open_: list[dict[str, Any]], messages: list[dict[str, Any]], told: bool) -> None:
    from cli.answers import amount, answer_line, answer_table

    if not told:
        answer_line("the pipeline file names nobody to be told: see docs/alerts.md")
    if not open_:
        answer_line("nothing is wrong that anybody would be told of")
    else:
        rows = [[one["since"], one["kind"], one["what"], amount(one["count"]), one["told_at"] or "not yet"] for one in open_]
        answer_table(["since", "kind", "what", "records", "told"], rows, right=["records"])
        answer_line()
        for place in dict.fromkeys(one["command"] for one in open_):
            answer_line(f"  {place}")
    if messages:
        answer_line()
        rows = [
            [one["created_at"], one["channel"], ", ".join(one["to"]) or one["room"], one["title"], one["state"], one["error"]]
            for one in messages[-_SHOWN:]
        ]
        answer_table(["message of", "by", "to", "says", "state", "error"], rows)
