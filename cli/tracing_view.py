"""What `trace` shows on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text
from rich.tree import Tree

from cli.answers import amount, answer_line, answer_shown, printable

Told = Mapping[str, Any]

_STYLES = {"delivered": "green", "passed": "green", "quarantined": "red", "pending": "yellow", "waiting": "yellow", "held": "yellow"}
_STATES = {
    "waiting": "waits for a lookup: not delivered yet",
    "held": "held back with its table, which is being copied, or was stopped by its contract or map",
}
_WORDS = {
    "delivered": "delivered", "filtered": "filtered away", "left": "taken out", "quarantined": "quarantined", "pending": "not yet",
    "unrouted": "does not get it", "unknown": "unknown",
}  # fmt: skip


def show(answer: Told) -> None:
    """Each change as a tree, the newest last."""
    dataset, key = answer["dataset"], _values(answer["key"])
    for change in answer["changes"]:
        answer_shown(_change(change))
        answer_line()
    if answer["changes"]:
        number = len(answer["changes"])
        answer_line(f"{dataset} {key}: {'1 change' if number == 1 else f'{amount(number)} changes'}")
    elif answer["known"]:
        answer_line(f"{dataset} {key}: its changes are gone from the journal")
    else:
        answer_line(f"{dataset} {key}: unknown" + (", as far as can be told now" if _doubtful(answer["gone"]) else ""))
    if answer["gone"] is not None:
        answer_shown(_gone(answer["gone"], asked=not answer["changes"]))


def _doubtful(gone: Told | None) -> bool:
    """Whether any sink could not say."""
    return gone is not None and any(one["row"] is None for one in gone["sinks"].values())


def _change(change: Told) -> Tree:
    title = Text.assemble((change["operation"], "bold"), f" {_values(change['key'])}".rstrip())
    if change["old_key"] is not None:
        title.append(f", until then {_values(change['old_key'])}")
    if change["ordinal"] is not None:
        title.append(f"  position {change['ordinal']}", "dim")
    tree = Tree(title)
    source = change["source"]
    _line(tree, "from", f"{source['name']} {source['table']} {_place(source['position'])}")
    _line(tree, "committed", f"{source['committed_at']} at the source")
    if change["received_at"] is not None:
        _line(tree, "received", f"{change['received_at']} into the journal")
    if change["trace_id"] is not None:
        came = f", from span {change['traceparent'][36:52]}" if change["traceparent"] else ""
        _line(tree, "trace", change["trace_id"] + came + (f", tracestate {change['tracestate']}" if change["tracestate"] else ""))
    for label, text in _judged(change):
        _line(tree, label, text, _STYLES.get(change["state"]) if label == "judged" else None)
    for label in ("before", "row"):
        if change[label]:
            _line(tree, label, _values(change[label]))
    if change["state"] in _STATES:
        _line(tree, "sinks", _STATES[change["state"]], "yellow")
    elif change["sinks"]:
        _sinks(tree, change["sinks"])
    return tree


def _judged(change: Told) -> Iterator[tuple[str, str]]:
    judged, state = change["judged"], change["state"]
    if judged["map"] is not None:
        yield "map", judged["map"]
    rules = "" if judged["rules"] is None else f", {len(judged['rules'])} rules"
    if judged["contract"] is None:
        yield "judged", f"no contract: {state}" if state in ("passed", "quarantined") else "no contract"
    else:
        now = "" if judged["noted"] else " (the contract as it is now)"
        yield "judged", f"{judged['contract']} {judged['version']}{now}{rules}: {state}"
    if judged["quarantine"] is not None:
        yield "record", f"{judged['quarantine']['id']} ({judged['quarantine']['status']})"
        for reason in judged["quarantine"]["reasons"]:
            column = f" {reason['column']}" if reason["column"] else ""
            yield "because", f"{reason['rule']}{column}: {reason['message']}"
    if judged["enrich"] is not None:
        yield "enriched", judged["enrich"] + (f" with {', '.join(judged['lookups'])}" if judged["lookups"] else "")


def _sinks(tree: Tree, sinks: Told) -> None:
    branch = tree.add(_labelled("sinks", ""))
    width = max(map(len, sinks))
    for name, one in sinks.items():
        branch.add(Text.assemble(f"{name.ljust(width)}  ", (_WORDS[one["status"]], _STYLES.get(one["status"], "")), _when(one), _why(one)))


def _when(one: Told) -> str:
    if one["by"] is None:
        return ""
    return f" by {one['by']}" + (f", after {one['after']}" if one["after"] is not None else "")


def _why(one: Told) -> str:
    return f": {printable(one['why'])}" if one["why"] else ""


def _gone(gone: Told, *, asked: bool) -> Tree:
    """What the journal has forgotten, and what the sinks say of that."""
    tree = Tree(f"the journal has forgotten the changes before position {gone['before']} (its first {amount(gone['entries'])} entries)")
    for name, one in gone["sinks"].items():
        had = "had all of them" if one["status"] == "delivered" else _WORDS[one["status"]]
        text = Text.assemble(f"{name}: ", (had, _STYLES.get(one["status"], "")))
        if one["row"] is None or not asked:
            tree.add(text.append(_when(one) if one["position"] is None else "").append(_why(one)))
            continue
        text.append(", and has such a row now" if one["row"] else ", and has no such row now")
        branch = tree.add(text)
        if one["position"] is not None:
            branch.add(f"its newest change has position {one['position']}, and was there{_when(one) or ' long since'}")
        if one["trace_id"] is not None:
            branch.add(f"its trace is {one['trace_id']}")
        if one["counted"] is not None:
            counted = one["counted"]
            came = f" from {counted['source']}" if counted["source"] else ""
            branch.add(f"received{came} after {counted['received_from']}" + _committed(counted))
    return tree


def _committed(counted: Told) -> str:
    return "" if counted["committed_from"] is None else f", committed between {counted['committed_from']} and {counted['committed_to']}"


def _line(tree: Tree, label: str, text: str, style: str | None = None) -> None:
    tree.add(_labelled(label, printable(text), style))


def _labelled(label: str, text: str, style: str | None = None) -> Text:
    return Text.assemble((label.ljust(10), "dim"), (text, style or ""))


def _values(values: Told) -> str:
    return printable(", ".join(f"{name}={'null' if value is None else value}" for name, value in values.items()))


def _place(position: object) -> str:
    return (
        " ".join(f"{name} {value}" for name, value in position.items() if name != "topic") if isinstance(position, dict) else str(position)
    )
