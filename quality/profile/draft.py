"""From facts to the draft of a contract: only rules that hold on everything that was looked at, each with why it is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quality.profile.model import ColumnProfile, Condition, Key, Scalar, TableProfile
from quality.profile.relations import ENOUGH
from quality.profile.rounding import lower, upper

_VERSION = "v3.1.0"
_TAG = "draft"
_WORDS = 20
_ROWS_A_WORD = 5
_LONGEST_WORD = 100
_LONGEST = 10_000  # characters; a longer text has no length that is worth a rule
_YEAR = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PLACEHOLDER = re.compile(r"[{}]")

Node = dict[str, Any]


def draft_of(profile: TableProfile) -> Node:
    """The draft as plain data, in the standard's words."""
    key = profile.keys[0] if profile.keys else None
    root: Node = {"name": profile.dataset, "logicalType": "object", "description": _told(profile)}
    root["properties"] = [_property(column, key, profile) for column in profile.columns]
    rules = _conditions(profile)
    if rules:
        root["quality"] = rules
    _own_ids([rule for holder in (*root["properties"], root) for rule in holder.get("quality", ())])
    return {
        "apiVersion": _VERSION,
        "kind": "DataContract",
        "id": _identifier(profile.dataset),
        "version": "0.1.0",
        "status": "draft",
        "description": {
            "purpose": f"Drafted from {profile.place}. Every rule held on all rows that were looked at; nobody has agreed to any."
        },
        "schema": [root],
    }


def _told(profile: TableProfile) -> str:
    rows = f"{profile.rows:,}".replace(",", " ")
    part = f"the first {rows} rows" if profile.sampled is not None else "1 row" if profile.rows == 1 else f"{rows} rows"
    return f"Draft from {part}, looked at on {profile.written_at:%Y-%m-%d}"


def _property(column: ColumnProfile, key: Key | None, profile: TableProfile) -> Node:
    node: Node = {"name": column.name}
    if column.logical is not None:
        node["logicalType"] = column.logical
    if column.physical is not None:
        node["physicalType"] = column.physical
    evidence = [f"{column.filled} of {column.rows} rows have a value"] if column.nulls else []
    if key is not None and column.name in key.columns:
        node["primaryKey"] = True
        if len(key.columns) > 1:
            node["primaryKeyPosition"] = key.columns.index(column.name) + 1
        evidence.append("the database's own key" if key.declared else "no null, and no two rows alike: the likeliest key")
    if column.rows >= ENOUGH and not column.nulls:
        node["required"] = True
        evidence.append("no row lacks it")
    if _unique(column) and not (key is not None and key.columns == (column.name,)):
        node["unique"] = True
        evidence.append("all values differ")
    if column.sensitive is not None:
        node["classification"] = "confidential"
        evidence.append(f"confidential because {column.sensitive}")
    options = dict(_options(column, evidence, alone=key is not None and column.name in key.columns))
    if options:
        node["logicalTypeOptions"] = options
    words = _words(column)
    if words is not None:
        node["quality"] = [words]
    if evidence:
        node["description"] = f"Draft: {'; '.join(evidence)}"
    node["tags"] = [_TAG]
    return node


def _unique(column: ColumnProfile) -> bool:
    likely = column.logical in ("integer", "string") and (column.longest or 0) <= _LONGEST_WORD
    return column.unique and column.filled >= ENOUGH and likely


def _options(column: ColumnProfile, evidence: list[str], *, alone: bool) -> Iterator[tuple[str, Any]]:
    if column.logical is None:
        return
    if column.format is not None:
        yield "format", column.format
        evidence.append(f"all are written as {column.format}")
    if column.filled < ENOUGH:
        return
    if column.logical == "string" and column.physical != "bytea":
        yield from _text_options(column, evidence)
    elif column.logical in ("integer", "number") and column.sensitive is None:
        yield from _limits(column, evidence, endless=alone or column.unique)
    elif column.logical in ("date", "timestamp") and column.sensitive is None:
        yield from _since(column, evidence)


def _text_options(column: ColumnProfile, evidence: list[str]) -> Iterator[tuple[str, Any]]:
    if column.text_format is not None:
        yield "format", column.text_format
        evidence.append(f"every text has the format {column.text_format}")
        return
    if _words(column) is not None or column.longest is None or column.shortest is None:
        return
    if column.pattern is not None and column.distinct > 1:
        yield "pattern", column.pattern
        evidence.append(f"every text looks like {column.shapes[0].shape}" if len(column.shapes) == 1 else "the texts have few shapes")
        return
    if column.shortest > 0:
        yield "minLength", 1
    if column.longest <= _LONGEST:
        yield "maxLength", _room(column.longest)
        evidence.append(f"{column.shortest} to {column.longest} characters")


def _room(longest: int) -> int:
    """A length that leaves room: what people make columns as wide as."""
    return next((width for width in (1, 2, 5, 10, 20, 50, 100, 200, 255, 500, 1000, 2000, 5000) if width >= longest), _LONGEST)


def _limits(column: ColumnProfile, evidence: list[str], *, endless: bool) -> Iterator[tuple[str, Any]]:
    least, most = column.least, column.most
    if column.wide or isinstance(least, str) or isinstance(most, str) or least is None or most is None or column.infinite:
        return
    low = lower(least, most)
    high = None if endless else upper(most, least)
    if low is not None:
        yield "minimum", low
    if high is not None:
        yield "maximum", high
    evidence.append(f"from {_number(least)} to {_number(most)}, rounded outward")


def _since(column: ColumnProfile, evidence: list[str]) -> Iterator[tuple[str, Any]]:
    """From the beginning of a year on. There is no end: tomorrow's rows are later."""
    least, most = str(column.least), str(column.most)
    if not _YEAR.match(least) or not _YEAR.match(most) or column.infinite:
        return
    yield "minimum", f"{least[:4]}-01-01" if column.logical == "date" else f"{least[:4]}-01-01T00:00:00Z"
    evidence.append(f"from {least[:19]} to {most[:19]}; no end is drafted")


def _words(column: ColumnProfile) -> Node | None:
    """A set of values, where they are few and each is in several rows."""
    words = column.words
    if words is None or column.logical != "string" or column.sensitive is not None or not 1 <= len(words) <= _WORDS or column.text_format:
        return None
    if column.filled < ENOUGH or column.filled < _ROWS_A_WORD * len(words) or any(len(word) > _LONGEST_WORD for word in words):
        return None
    return {
        "id": f"{_identifier(column.name)}-among",
        "metric": "invalidValues",
        "arguments": {"validValues": list(words)},
        "mustBe": 0,
        "description": f"Draft: {len(words)} different value{'s' if len(words) > 1 else ''} in {column.filled} rows",
        "tags": [_TAG],
    }


def _conditions(profile: TableProfile) -> list[Node]:
    names = [column.name.lower() for column in profile.columns]
    rules: list[Node] = []
    for one in profile.conditions:
        if any(_PLACEHOLDER.search(name) or names.count(name.lower()) > 1 or not name for name in (one.left, one.right)):
            continue  # SQL could not name such a column without doubt
        rules.append(_condition(one))
    return rules


def _condition(one: Condition) -> Node:
    sign = "<" if one.strict else "<="
    return {
        "id": f"{_identifier(one.left)}-not-above-{_identifier(one.right)}",
        "type": "sql",
        "query": f"{_quoted(one.left)} {sign} {_quoted(one.right)}",
        "mustBe": True,
        "description": f"Draft: held in all {one.rows} rows that have both" + (f", equal in {one.equal}" if one.equal else ""),
        "tags": [_TAG],
    }


def _own_ids(rules: Sequence[Node]) -> None:
    """No two rules have one id."""
    taken: set[str] = set()
    for rule in rules:
        stem, times = rule["id"], 1
        while rule["id"] in taken:
            times += 1
            rule["id"] = f"{stem}-{times}"
        taken.add(rule["id"])


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:60] or "x"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _number(value: Scalar) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def without(draft: Node, kind: str, columns: Sequence[str], rule: str) -> bool:
    """Takes a rule out of a draft: one of `quality` by its id, one that a property states by its kind. Returns whether it was found."""
    (root,) = draft["schema"]
    for holder in (root, *root["properties"]):
        kept = [entry for entry in holder.get("quality", ()) if entry["id"] != rule]
        if len(kept) < len(holder.get("quality", ())):
            holder["quality"] = kept
            if not kept:
                del holder["quality"]
            return True
    found = False
    for node in (node for node in root["properties"] if node["name"] in columns):
        options: Mapping[str, Any] = node.get("logicalTypeOptions", {})
        if kind in options:
            node["logicalTypeOptions"] = {name: value for name, value in options.items() if name != kind}
            found = True
        elif kind == "type":
            found |= any(node.pop(part, None) is not None for part in ("logicalType", "logicalTypeOptions", "physicalType"))
        elif kind in node:
            found |= node.pop(kind, None) is not None
            node.pop("primaryKeyPosition" if kind == "primaryKey" else "", None)
    return found
