"""What a contract says of the inside of objects and arrays, as a JSON Schema for the value of the column."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from quality.custom_properties import OF_A_RULE
from quality.patterns import FORMATS, python_pattern

Trail = tuple[str | int, ...]
Problem = tuple[Trail, str]

_PLAIN = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean", "object": "object", "array": "array"}
_DATED = ("date", "timestamp", "time")
_KEPT = ("minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems")
_OF_OBJECTS = ("uniqueItems", "minProperties", "maxProperties")
_RANGES = {"u": 0, "i": 1}
_ELEMENTS = {"int8": (-128, 127), "uint8": (0, 255), "binary": (0, 1)}
"""Of vectors that hold whole numbers; those of all other elements hold any."""
_WHOLE = r"^-?[0-9]+$"


def shape_of(node: Mapping[str, Any], path: Trail, problems: list[Problem]) -> dict[str, Any]:
    """The JSON Schema of a property's value, apart from whether it may be null. What JSON Schema cannot say becomes a problem."""
    kind = node.get("logicalType") or ("object" if "properties" in node else "array" if "items" in node else None)
    options = node.get("logicalTypeOptions") or {}
    schema: dict[str, Any] = {}
    if options and kind is None:
        problems.append(((*path, "logicalTypeOptions"), "these options have no meaning without a logicalType"))
    problems += [
        ((*path, "logicalTypeOptions", name), f"{name} is {value}, with which nothing can be compared")
        for name, value in options.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if kind in _PLAIN:
        schema["type"] = _PLAIN[kind]
    elif kind in _DATED:
        schema |= {"type": "string", "moment": kind}
        problems += [((*path, "logicalTypeOptions", name), f"{name} of a {kind} inside an object cannot be judged") for name in options]
    elif kind == "map":
        schema |= {"type": "object", "additionalProperties": _value(node["map"]["value"], (*path, "map", "value"), problems)}
        schema["propertyNames"] = _names(node["map"]["key"], (*path, "map", "key"), problems)
    elif kind == "vector":
        size = options.get("dimensions")
        schema |= {"type": "array", "items": _element(options)} | ({"minItems": size, "maxItems": size} if size else {})
    schema |= {name: options[name] for name in (*_KEPT, *_OF_OBJECTS) if name in options and kind not in _DATED}
    _text_options(options, schema, path, problems)
    if kind == "integer" and "format" in options:
        signed, bits = _RANGES[options["format"][0]], int(options["format"][1:])
        least = -(2 ** (bits - 1)) if signed else 0
        _also(schema, {"minimum": least, "maximum": 2 ** (bits - signed) - 1})
    if "enum" in node:
        _also(schema, {"enum": [entry["value"] for entry in node["enum"]]})
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
        if member["name"] in found:
            problems.append(((*path, "properties", place), f"there are two properties {member['name']!r}"))
        found[member["name"]] = _value(member, (*path, "properties", place), problems)
    return {"properties": found, "required": [member["name"] for member in members if _wanted(member)]} if found else {}


def _value(node: Mapping[str, Any], path: Trail, problems: list[Problem]) -> dict[str, Any]:
    """As `shape_of`, and null where the property is not required."""
    idle = [name for name in ("unique", "primaryKey") if node.get(name)]
    problems += [((*path, name), f"{name} inside an object or array cannot be judged") for name in idle]
    schema = shape_of(node, path, problems)
    for place, check in enumerate(node.get("quality") or []):
        problems += [((*path, "quality", place), found) for found in _quality(check, schema)]
    return schema if _wanted(node) else {"anyOf": [schema, {"type": "null"}]}


def _wanted(node: Mapping[str, Any]) -> bool:
    """Whether there has to be a value: nothing at all is null, too."""
    return bool(node.get("required")) or any(check.get("metric") == "nullValues" for check in node.get("quality") or [])


def _names(node: Mapping[str, Any], path: Trail, problems: list[Problem]) -> dict[str, Any]:
    """The JSON Schema of a map's keys, which JSON has as text."""
    kind, options = node.get("logicalType"), node.get("logicalTypeOptions") or {}
    if kind == "integer":
        problems += [((*path, "logicalTypeOptions", name), f"{name} of a map's keys cannot be judged: they are text") for name in options]
        return {"pattern": _WHOLE}
    if kind not in (None, "string", *_DATED):
        problems.append(((*path, "logicalType"), f"keys of type {kind} cannot be judged: they are text"))
        return {}
    return _value(node, path, problems)


def _element(options: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a vector's elements."""
    if options.get("elementType") not in _ELEMENTS:
        return {"type": "number"}
    least, most = _ELEMENTS[options["elementType"]]
    return {"type": "integer", "minimum": least, "maximum": most}


def _quality(check: Mapping[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    """Adds a check inside an object to the schema; yields why it cannot be."""
    arguments = check.get("arguments") or {}
    if check.get("type") == "text":
        return
    for entry in check.get("customProperties") or []:
        if entry["property"] in OF_A_RULE:
            yield f"a rule inside an object or array has no {entry['property']} of its own: all that is said of a value is one rule"
    if check.get("mustBe") != 0 or check.get("unit") not in (None, "rows") or check.get("metric") not in ("nullValues", "invalidValues"):
        yield "inside an object or array only nullValues and invalidValues with mustBe: 0 can be judged"
        return
    if "validValues" in arguments:
        _also(schema, {"enum": list(arguments["validValues"])})
    if "pattern" in arguments:
        try:
            _also(schema, {"pattern": python_pattern(arguments["pattern"])})
        except ValueError as error:
            yield str(error)


def _also(schema: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Adds to a schema what has to hold besides."""
    schema.setdefault("allOf", []).append(more)


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
        elif (pattern := FORMATS[options["format"]]) is not None:
            _also(schema, {"pattern": python_pattern(pattern)})
