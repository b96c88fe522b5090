"""The JSON Schema of the pipeline file, for editors: the models of the file, and the block of each kind that is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from pipeline.alerts import CHANNELS, AlertsBlock
from pipeline.file import DatasetBlock, LookupBlock, PipelineFile
from pipeline.kinds import kinds

_REF = "#/$defs/{model}"
_VARIABLE = {"type": "string", "pattern": r"\$\{.+\}"}
_NOT_TEXT = ("integer", "number", "boolean")
_LIMITS = {"enum", "const", "pattern", "format", "maxLength"}

Schema = dict[str, Any]


def editor_schema() -> Schema:
    """A schema of draft 2020-12. Where a number or a choice is wanted a `${VARIABLE}` is taken too."""
    definitions: Schema = {}
    root = _model(PipelineFile, definitions)
    root["properties"]["sources"]["additionalProperties"] = _by_type("sources", definitions)
    root["properties"]["sinks"]["additionalProperties"] = _by_type("sinks", definitions)
    root["properties"]["datasets"]["additionalProperties"] = _reference(DatasetBlock, definitions)
    root["properties"]["lookups"]["additionalProperties"] = _reference(LookupBlock, definitions)
    root["properties"]["alerts"] |= _reference(AlertsBlock, definitions)
    definitions[AlertsBlock.__name__]["properties"]["channels"]["additionalProperties"] = _one_of(CHANNELS, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_with_variables(root),
        "$defs": {name: _with_variables(one) for name, one in sorted(definitions.items())},
    }


def _model(model: type[BaseModel], definitions: Schema) -> Schema:
    """A model's schema, without titles; what it refers to goes into `definitions`."""
    schema = model.model_json_schema(by_alias=True, ref_template=_REF, mode="validation")
    for name, inner in schema.pop("$defs", {}).items():
        definitions.setdefault(name, _untitled(inner))
    plain: Schema = _untitled(schema)
    return plain


def _reference(model: type[BaseModel], definitions: Schema) -> Schema:
    definitions[model.__name__] = _model(model, definitions)
    return {"$ref": _REF.format(model=model.__name__)}


def _by_type(group: str, definitions: Schema) -> Schema:
    """The blocks of the sources, or of the sinks, that are installed."""
    found = {name: point.load() for name, point in sorted(kinds(f"sluice.{group}").items())}
    schema = _one_of({name: kind.Config for name, kind in found.items()}, definitions)
    if group == "sinks":
        for kind, branch in zip(found.values(), schema["allOf"], strict=True):
            branch["then"]["properties"]["datasets"] = _routes(kind.Route, definitions)
    return schema


def _one_of(models: Mapping[str, type[BaseModel]], definitions: Schema) -> Schema:
    """A block whose `type` decides what else is in it."""
    branches = []
    for name, model in models.items():
        block = _model(model, definitions)
        block["properties"] = {"type": {"const": name}, **block["properties"]}
        block["required"] = ["type", *block.get("required", ())]
        branches.append({"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": block})
    return {"type": "object", "required": ["type"], "properties": {"type": {"enum": list(models)}}, "allOf": branches}


def _routes(model: type[BaseModel], definitions: Schema) -> Schema:
    return {
        "description": "The datasets that go here, by default all of them: their names, or names with how they go.",
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
            {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"anyOf": [_reference(model, definitions), {"type": "null"}]},
            },
        ],
    }


def _untitled(node: Any) -> Any:
    """Without the titles that pydantic makes of names; a property that is called `title` stays."""
    if isinstance(node, list):
        return [_untitled(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _untitled(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    if isinstance(found.get("description"), str):
        found["description"] = " ".join(found["description"].split())
    return found


def _with_variables(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_variables(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _with_variables(value) for key, value in node.items()}
    if found.get("type") in _NOT_TEXT or (found.get("type") == "string" and _LIMITS & found.keys()):
        kept = {key: found.pop(key) for key in ("description", "default") if key in found}
        return {**kept, "anyOf": [found, _VARIABLE]}
    return found
