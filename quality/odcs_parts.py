"""A contract taken apart, so that each of its properties and rules is judged by itself, as deep as it may be.

The schema asks several times for what is inside a property, so that a deep one as a whole would never end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from pipeline.document import Step

Trail = tuple[Step, ...]


@cache
def odcs_schema() -> dict[str, Any]:
    """The JSON Schema of the standard, as the package ships it, with one thing mended."""
    schema: dict[str, Any] = json.loads(resources.files("open_data_contract_standard").joinpath("schema.json").read_text("utf-8"))
    # `if: {properties: {logicalType: …}}` is also true of a property that has no logicalType; it would have to be everything at once
    for branch in schema["$defs"]["SchemaBaseProperty"]["allOf"]:
        if "if" in branch:
            branch["if"] = {"allOf": [branch["if"], {"required": ["logicalType"]}]}
    return schema


@cache
def _plain_keys() -> dict[str, type]:
    """Keys of a property of which the schema asks nothing but that they are text, or true or false."""
    definitions = odcs_schema()["$defs"]
    types = {"string": str, "boolean": bool}
    found: dict[str, type] = {}
    for name, asked in [*definitions["SchemaElement"]["properties"].items(), *definitions["SchemaBaseProperty"]["properties"].items()]:
        if asked.keys() <= {"type", "description", "examples", "default"} and asked.get("type") in types:
            found[name] = types[asked["type"]]
    return found


@cache
def _plain_types() -> frozenset[str]:
    """The logical types that ask for no other key."""
    base = odcs_schema()["$defs"]["SchemaBaseProperty"]
    asking = [json.dumps(branch["if"]) for branch in base["allOf"] if "required" in branch.get("then", {})]
    return frozenset(one for one in base["properties"]["logicalType"]["enum"] if not any(f'"{one}"' in asked for asked in asking))


def is_plain(node: Any) -> bool:
    """Whether a property is as simple as most are: then it is sound, and the schema, which takes milliseconds, need not be asked."""
    if not isinstance(node, dict) or not isinstance(node.get("name"), str):
        return False
    plain = _plain_keys()
    for key, value in node.items():
        if key == "logicalType":
            if not isinstance(value, str) or value not in _plain_types():
                return False
        elif key not in plain or not isinstance(value, plain[key]):
            return False
    return True


Part = tuple[Trail, str, Mapping[str, Any]]
"""Where a node stands, the definition that it is judged by, and the node."""


def apart(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Part]]:
    """The contract with properties that say their names alone, and these."""
    schema = content.get("schema")
    if not isinstance(schema, list):
        return content, []
    parts: list[Part] = []
    objects = []
    for place, node in enumerate(schema):
        inside = node.get("properties") if isinstance(node, dict) else None
        if isinstance(inside, list):
            parts += [(("schema", place, "properties", i), "SchemaProperty", one) for i, one in enumerate(inside)]
            node = {**node, "properties": []}
        objects.append(node)
    return {**content, "schema": objects}, parts


def without_inside(path: Trail, judged_by: str, node: Any) -> tuple[Any, list[Part]]:
    """A property without what is inside it, and that. What the schema does not look into stays."""
    if not isinstance(node, dict):
        return node, []
    if judged_by not in ("SchemaProperty", "SchemaItemProperty"):
        return node, []
    outside = dict(node)
    parts: list[Part] = []
    if isinstance(node.get("quality"), list):
        parts += [((*path, "quality", i), "DataQuality", one) for i, one in enumerate(outside.pop("quality"))]
    kind, inside = node.get("logicalType"), {name: node.get(name) for name in ("properties", "items", "map")}
    if isinstance(inside["properties"], list) and (kind == "object" or judged_by == "SchemaItemProperty"):
        parts += [((*path, "properties", i), "SchemaProperty", one) for i, one in enumerate(inside["properties"])]
        outside["properties"] = []
    if isinstance(inside["items"], dict) and kind == "array":
        parts.append(((*path, "items"), "SchemaItemProperty", inside["items"]))
        outside["items"] = {}
    if isinstance(inside["map"], dict) and kind == "map":
        sides = [side for side in ("key", "value") if isinstance(inside["map"].get(side), dict)]
        parts += [((*path, "map", side), "SchemaItemProperty", inside["map"][side]) for side in sides]
        outside["map"] = inside["map"] | {side: {} for side in sides}
    return outside, parts
