"""`status`: positions, lag, states, counts."""

from __future__ import annotations

import socket
from typing import Any

from cli.loading import loading
from cli.options import AsJson, Log, PipelineFile, Verbose, speak
from cli.styles import LogFormat


def status(file: PipelineFile, json: AsJson = False, verbose: Verbose = False, log_format: Log = LogFormat.console) -> None:
    """Tells positions, lag, states and counts, from what is on disk. It answers whether or not the service runs.

    States are starting, copying, streaming, running, retrying, paused and stopped.

    \b
    Examples:
      sluice status pipeline.yaml
      sluice status pipeline.yaml --json
    """
    speak(verbose, log_format)
    with loading():
        from cli.answers import answer_json
        from cli.standing import standing
        from pipeline.load import load_pipeline

        pipeline = load_pipeline(file)
    answer = standing(pipeline)
    if json:
        answer_json(answer)
    else:
        _show(answer)


def _show(answer: dict[str, Any]) -> None:
    from cli.answers import amount, answer_line, answer_table, seconds

    answer_line(f"{answer['pipeline']}: {'running' if answer['running'] else 'not running'}")
    answer_line()
    sources = [
        [name, one["state"], one["confirmed"], one["server"], _behind(one), seconds(one["lag_seconds"]), one["wal_status"]]
        for name, one in answer["sources"].items()
    ]
    answer_table(["source", "state", "confirmed", "server", "behind", "lag", "WAL"], sources, right=["behind", "lag"])
    answer_line()
    counts = ["in", "quarantined", "dropped", "open_quarantine"]
    rows = [[name, *(amount(one[count]) for count in counts)] for name, one in answer["datasets"].items()]
    answer_table(
        ["dataset", "in", "quarantined", "dropped", "waiting for you"], rows, right=["in", "quarantined", "dropped", "waiting for you"]
    )
    answer_line()
    sinks = [
        [
            name,
            one["state"],
            amount(one["lag_batches"]),
            seconds(one["lag_seconds"]),
            dataset,
            amount(n["delivered"]),
            amount(n["filtered"]),
        ]
        for name, one in answer["sinks"].items()
        for dataset, n in (one["datasets"] or {"": {"delivered": 0, "filtered": 0}}).items()
    ]
    headings = ["sink", "state", "batches behind", "lag", "dataset", "delivered", "filtered"]
    answer_table(headings, sinks, right=["batches behind", "lag", "delivered", "filtered"])
    for name, machines in _elsewhere(answer):
        answer_line(f"{name}: runs on {', '.join(machines)}")
    for name, one in answer["datasets"].items():
        pending = (one.get("contract") or {}).get("pending")
        if pending is not None:
            answer_line(f"{name}: {_pending(pending, one['contract']['in_force'])}")
    for name, error in _errors(answer):
        answer_line(f"{name}: {error}")
    for name, one in answer["datasets"].items():
        if one["incidents"]:
            answer_line(f"{name}: {amount(one['incidents'])} open incident(s); `sluice audit run` and `sluice report` say what is wrong")


def _pending(pending: dict[str, Any], in_force: dict[str, Any]) -> str:
    """What becomes of a contract that is not in force."""
    judges = f"{in_force['version']} judges"
    if pending["error"] is not None:
        return f"the contract is not sound, so {judges}: {pending['error']}"
    if pending["breaking"]:
        return f"the contract {pending['version']} waits for approval, {judges}: {'; '.join(pending['breaking'])}"
    return f"the contract {pending['version']} comes into force with the next start; until then {judges}"


def _behind(source: dict[str, Any]) -> str:
    """How far a source is behind, in what it counts in."""
    from cli.answers import amount

    if source["lag_messages"] is not None:
        return f"{amount(source['lag_messages'])} messages"
    return "" if source["lag_bytes"] is None else f"{amount(source['lag_bytes'])} bytes"


def _elsewhere(answer: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """What runs on other machines than this one."""
    here = [socket.gethostname()]
    found = [(name, one["machines"]) for part in ("sources", "sinks") for name, one in answer[part].items()]
    return [(name, machines) for name, machines in found if machines not in ([], here)]


def _errors(answer: dict[str, Any]) -> list[tuple[str, str]]:
    found = [(name, one["error"]) for part in ("sources", "sinks") for name, one in answer[part].items()]
    found += [("watch", answer["watch"]["error"])] if answer["watch"] is not None else []
    found += [(f"{name}.{table}", one["error"]) for name, source in answer["sources"].items() for table, one in source["tables"].items()]
    return [(name, error) for name, error in found if error]
