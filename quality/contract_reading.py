"""Reads a contract's file: every problem at once, each with its line, or a contract whose every rule can be judged."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.document import Document, read_document
from pipeline.errors import ConfigError, Problem
from quality.contract import SECRECY, SENSITIVE, Contact, Contract, Property
from quality.contract_rules import RulesReading
from quality.custom_properties import Home, misplaced, slipped
from quality.nested_shape import Trail
from quality.object_settings import ObjectSettings, read_object_settings
from quality.odcs_schema import modernised, problems_of, size_problem, sound_part, version_problem
from quality.rules import Rule, RuleError
from quality.service_level import HEEDED, SHARES, ServiceLevel

_LARGEST = 1 << 20  # bytes of a contract
_SCHEMA = "schema: [{name: DATASET, properties: […]}]"


def load_contract(file: Path, text: str | None = None) -> Contract:
    """Reads and checks a contract of the Open Data Contract Standard, 3.0 to 3.2. `${…}` is only text in it.

    With `text` that is read, and `file` is what messages name. Raises ConfigError with every problem there is.
    """
    document = read_document(file, fill=False, text=text, largest=_LARGEST)
    if not isinstance(document.content, dict) or not document.content:
        said = "this is not a contract: a mapping is wanted" if document.content else "the file is empty"
        raise ConfigError.of([Problem(said, file, 1, "a contract begins with apiVersion and kind: DataContract")])
    problem = version_problem(document, document.content) or size_problem(document, document.content)
    if problem is not None:
        raise ConfigError.of([problem])
    content = modernised(document.content)
    return _Reading(document, content).contract()


class _Reading:
    """One contract while it is read. What the standard's schema finds wrong is left out of the rest, which is read all the same."""

    def __init__(self, document: Document, content: Mapping[str, Any]) -> None:
        self._document = document
        self._content = content
        found = problems_of(document, content)
        self._problems = [problem for _, problem in found]
        self._sound = sound_part(content, [path for path, _ in found]) if found else content

    def contract(self) -> Contract:
        root = self._schema_object()
        properties = self._properties(root)
        settings = self._settings(root)
        rules: list[Rule] = []
        if root:
            rules = RulesReading(root, properties, self._document.line, self._problem).rules()
            self._misplaced(root)
        levels = self._service_levels()
        if self._problems:
            raise ConfigError.of(sorted(self._problems, key=lambda problem: problem.line or 0))
        content = self._content
        return Contract(
            file=self._document.file,
            id=content["id"],
            version=content["version"],
            dataset=root["name"],
            table=root.get("physicalName") or root["name"],
            properties=properties,
            rules=rules,
            fingerprint=hashlib.sha256(json.dumps(root, sort_keys=True, ensure_ascii=False).encode()).hexdigest(),
            name=content.get("name"),
            status=content.get("status"),
            description=root.get("description") or (content.get("description") or {}).get("purpose"),
            owner=_owner(content.get("team")),
            contacts=_contacts(content),
            service_levels=levels,
            breaker=settings.breaker,
            order=settings.order,
            approval=settings.approval,
            compatibility=settings.compatibility,
            text=self._document.text,
            audit=settings.audit,
            relationships=tuple(self._relationships(root)),
        )

    def _problem(self, path: Trail, message: str, hint: str | None = None) -> None:
        self._problems.append(Problem(message, self._document.file, self._document.line(path), hint))

    def _schema_object(self) -> dict[str, Any]:
        objects = self._sound.get("schema") or []
        if not objects and not self._problems:
            self._problem(("schema",), "the contract has no schema object, so it says nothing of any dataset", _SCHEMA)
            return {}
        if len(objects) > 1:
            self._problem(
                ("schema", 1), f"a contract has one schema object; this is the second of {len(objects)}", "write a file for each dataset"
            )
        return objects[0] if objects and "name" in objects[0] else {}

    def _properties(self, root: Mapping[str, Any]) -> tuple[Property, ...]:
        found: list[Property] = []
        taken: dict[str, int] = {}
        for place, node in enumerate(root.get("properties") or []):
            path: Trail = ("schema", 0, "properties", place)
            if node is None:  # broken
                continue
            if node.get("semanticType") == "measure":
                if any(node.get(part) for part in ("required", "unique", "primaryKey", "quality", "logicalTypeOptions")):
                    self._problem(path, f"{node['name']} is a measure, not a column, so its rules cannot be judged")
                continue
            prop = _property(node, self._document.line(path), place)
            if not prop.name:
                self._problem(path, "the property has no name", "name: COLUMN")
                continue
            for name in {prop.name, prop.column}:
                if name in taken:
                    self._problem(path, f"there are two properties {name!r}", f"the first is in line {taken[name]}")
                taken[name] = prop.line
            if (meant := _meant(prop.classification)) is not None:
                said = f"classification {prop.classification!r} protects nothing"
                self._problem((*path, "classification"), said, f"did you mean {meant}?")
            found.append(prop)
        return tuple(found)

    def _relationships(self, root: Mapping[str, Any]) -> Iterator[int]:
        """The lines of what is only said of other tables: nobody judges it."""
        properties = enumerate(root.get("properties") or ())
        holders: list[tuple[Trail, Any]] = [(("schema", 0), root), *((("schema", 0, "properties", n), one) for n, one in properties if one)]
        for path, node in holders:
            if node.get("relationships"):
                yield self._document.line((*path, "relationships"))

    def _settings(self, root: Mapping[str, Any]) -> ObjectSettings:
        try:
            return read_object_settings(root.get("customProperties"))
        except RuleError as error:
            self._problem(("schema", 0, "customProperties"), error.message, error.hint)
            return ObjectSettings()

    def _misplaced(self, root: Mapping[str, Any]) -> None:
        """Settings of Sluice where nobody looks for them."""
        holders: list[tuple[Trail, Any, Home | None]] = [((), self._sound, None), (("schema", 0), root, "the schema object")]
        for n, prop in enumerate(root.get("properties") or []):
            if prop is not None:  # broken
                holders.append((("schema", 0, "properties", n), prop, None))
        for path, holder, _ in holders[1:]:
            holders += [((*path, "quality", n), check, "a rule") for n, check in enumerate(holder.get("quality") or [])]
        for path, node, here in holders:
            for place, said, hint in misplaced(node.get("customProperties"), here):
                self._problem((*path, "customProperties", place), said, hint)

    def _service_levels(self) -> tuple[ServiceLevel, ...]:
        found: list[ServiceLevel] = []
        for place, node in enumerate(self._sound.get("slaProperties") or []):
            path: Trail = ("slaProperties", place)
            level = ServiceLevel(node["property"], node["value"], node.get("unit"), node.get("element"), self._document.line(path))
            name = level.property.lower()
            if (meant := slipped(name, HEEDED)) is not None:
                self._problem(path, f"the service level {level.property!r} is not known", f"did you mean {meant}?")
            elif name in HEEDED and any((one.property.lower(), one.element) == (name, level.element) for one in found):
                self._problem(path, f"{level.property} is promised twice", "one of them is left out")
            try:
                if level.property in HEEDED:
                    level.share() if level.property in SHARES else level.seconds()
            except ValueError as error:
                self._problem(path, str(error), "such as {value: 4, unit: h}, P1Y, or 99.5 with unit percent")
            found.append(level)
        return tuple(found)


def _property(node: Mapping[str, Any], line: int, place: int) -> Property:
    position = node.get("primaryKeyPosition", -1)
    return Property(
        name=node["name"],
        column=node.get("physicalName") or node["name"],
        line=line,
        logical_type=node.get("logicalType"),
        physical_type=node.get("physicalType"),
        required=bool(node.get("required")),
        unique=bool(node.get("unique")),
        key_position=(position if position > 0 else place + 1) if node.get("primaryKey") else None,
        classification=_classification(node),
        description=node.get("description"),
        options=node.get("logicalTypeOptions") or {},
        inside={path: (part.get("logicalType"), part.get("physicalType")) for path, part in _parts(node, "")},
    )


def _parts(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What is inside of a property, however deep, each behind what holds it: path, and what is said of it."""
    entries = node.get("map") or {}
    held = [(f"{path}.{part['name']}", part) for part in node.get("properties") or ()]
    held += [(f"{path}{name}", part) for name, part in (("[]", node.get("items")), ("{}", entries.get("value")))]
    for below, part in held:
        if part:
            yield below, part
            yield from _parts(part, below)


def _classification(node: Mapping[str, Any]) -> str | None:
    """A column is as secret as the most secret of its parts: it is shown whole, or not at all."""
    keys = (node.get("map") or {}).get("key") or {}
    said = [part.get("classification") for part in (node, keys, *(part for _, part in _parts(node, "")))]
    return max(said, key=lambda word: SECRECY.get((word or "").lower(), 0))


def _meant(classification: str | None) -> str | None:
    """The word of secrecy that a word which protects nothing was meant to be."""
    word = (classification or "").lower()
    close = difflib.get_close_matches(word, sorted(SENSITIVE), n=1, cutoff=0.85)
    return close[0] if close and word not in SENSITIVE else None


def _owner(team: object) -> str | None:
    members = team if isinstance(team, list) else team.get("members") or [] if isinstance(team, dict) else []
    for member in members:
        if str(member.get("role", "")).lower() == "owner" and not member.get("dateOut"):
            return str(member.get("name") or member["username"])
    return team.get("name") if isinstance(team, dict) else None


def _contacts(content: Mapping[str, Any]) -> tuple[Contact, ...]:
    return tuple(Contact(node["channel"], node.get("tool"), node.get("url")) for node in content.get("support") or [])
