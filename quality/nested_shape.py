"""What a contract says of the inside of objects and arrays, as a JSON Schema for the value of the column."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from jsonschema import Draft202012Validator

from quality.patterns import FORMATS, python_pattern
from quality.reading import UUID

Trail = tuple[str | int, ...]
Problem = tuple[Trail, str]

_PLAIN = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean", "object": "object", "array": "array"}
_DATED = {
    "date": r"^\d{4}-\d{2}-\d{2}$",
    "timestamp": r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?$",
    "time": r"^\d{2}:\d{2}(:\d{2}(\.\d+)?)?$",
}
_KEPT = ("minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems")
_OF_OBJECTS = ("uniqueItems", "minProperties", "maxProperties")
_RANGES = {"u": 0, "i": 1}


class Shape:
    """Judges JSON texts by a schema, each distinct text once."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = Draft202012Validator(schema)

    def __call__(self, texts: pa.Array) -> npt.NDArray[np.bool_]:
        pair = texts.dictionary_encode()
        fits = np.array([self._fits(text) for text in pair.dictionary.to_pylist()] + [True])
        return np.asarray(fits[np.asarray(pc.fill_null(pair.indices, -1))])

    def _fits(self, text: str) -> bool:
        try:
            return bool(self._validator.is_valid(json.loads(text)))
        except ValueError:
            return False


def shape_of(node: Mapping[str, Any], path: Trail, problems: list[Problem]) -> dict[str, Any]:
    """The JSON Schema of a property's value, apart from whether it may be null. What JSON Schema cannot say becomes a problem."""
    kind = node.get("logicalType") or ("object" if "properties" in node else "array" if "items" in node else None)
    options = node.get("logicalTypeOptions") or {}
    schema: dict[str, Any] = {}
    if kind in _PLAIN:
        schema["type"] = _PLAIN[kind]
    elif kind in _DATED:
        schema |= {"type": "string", "pattern": _DATED[kind]}
        problems += [((*path, "logicalTypeOptions", name), f"{name} of a {kind} inside an object cannot be judged") for name in options]
    elif kind == "map":
        schema |= {"type": "object", "additionalProperties": _value(node["map"]["value"], (*path, "map", "value"), problems)}
    elif kind == "vector":
        size = options.get("dimensions")
        schema |= {"type": "array", "items": {"type": "number"}} | ({"minItems": size, "maxItems": size} if size else {})
    schema |= {name: options[name] for name in (*_KEPT, *_OF_OBJECTS) if name in options and kind not in _DATED}
    _text_options(options, schema, path, problems)
    if kind == "integer" and "format" in options:
        signed, bits = _RANGES[options["format"][0]], int(options["format"][1:])
        least = -(2 ** (bits - 1)) if signed else 0
        schema["allOf"] = [{"minimum": least, "maximum": 2 ** (bits - signed) - 1}]
    if "enum" in node:
        schema["enum"] = [entry["value"] for entry in node["enum"]]
    if kind == "object":
        schema |= _members(node, path, problems)
        schema["required"] = sorted({*schema.get("required", ()), *options.get("required", ())})
    if "items" in node:
        schema["items"] = _value(node["items"], (*path, "items"), problems)
    return schema


def has_inside(node: Mapping[str, Any]) -> bool:
    """Whether a property says anything of the inside of its value."""
    options = node.get("logicalTypeOptions") or {}
    named = any(name in options for name in ("minItems", "maxItems", "required", "dimensions", *_OF_OBJECTS))
    return named or any(node.get(part) for part in ("properties", "items", "map"))


def _members(node: Mapping[str, Any], path: Trail, problems: list[Problem]) -> dict[str, Any]:
    members = node.get("properties") or []
    found: dict[str, Any] = {}
    for place, member in enumerate(members):
        found[member["name"]] = _value(member, (*path, "properties", place), problems)
    return {"properties": found, "required": [member["name"] for member in members if member.get("required")]} if found else {}


def _value(node: Mapping[str, Any], path: Trail, problems: list[Problem]) -> dict[str, Any]:
    """As `shape_of`, and null where the property is not required."""
    idle = [name for name in ("unique", "primaryKey") if node.get(name)]
    problems += [((*path, name), f"{name} inside an object or array cannot be judged") for name in idle]
    schema = shape_of(node, path, problems)
    required = bool(node.get("required"))
    for place, check in enumerate(node.get("quality") or []):
        problems += [((*path, "quality", place), found) for found in _quality(check, schema)]
        required |= check.get("metric") == "nullValues"
    return schema if required else {"anyOf": [schema, {"type": "null"}]}


def _quality(check: Mapping[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    """Adds a check inside an object to the schema; yields why it cannot be."""
    arguments = check.get("arguments") or {}
    if check.get("type") == "text":
        return
    if check.get("mustBe") != 0 or check.get("unit") not in (None, "rows") or check.get("metric") not in ("nullValues", "invalidValues"):
        yield "inside an object or array only nullValues and invalidValues with mustBe: 0 can be judged"
        return
    if "validValues" in arguments:
        schema["enum"] = list(arguments["validValues"])
    if "pattern" in arguments:
        try:
            schema.setdefault("allOf", []).append({"pattern": python_pattern(arguments["pattern"])})
        except ValueError as error:
            yield str(error)


def _text_options(options: Mapping[str, Any], schema: dict[str, Any], path: Trail, problems: list[Problem]) -> None:
    if schema.get("type") != "string":
        return
    if "pattern" in options:
        try:
            schema["pattern"] = python_pattern(options["pattern"])
        except ValueError as error:
            problems.append(((*path, "logicalTypeOptions", "pattern"), str(error)))
    if "format" in options:
        if options["format"] not in FORMATS:
            problems.append(((*path, "logicalTypeOptions", "format"), f"format {options['format']!r} is not known: {', '.join(FORMATS)}"))
        elif (pattern := UUID if options["format"] == "uuid" else FORMATS[options["format"]]) is not None:
            schema.setdefault("allOf", []).append({"pattern": pattern})
