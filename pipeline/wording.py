"""What pydantic finds wrong with a block, in the words of whoever wrote the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.document import Document, Step
from pipeline.errors import Problem
from pipeline.names import nearest

_TEXT = {
    "string_type": "is not text",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_type": "is not a number",
    "float_parsing": "is not a number",
    "list_type": "is not a list",
    "tuple_type": "is not a list",
    "dict_type": "is not a block of keys",
    "model_type": "is not a block of keys",
    "model_attributes_type": "is not a block of keys",
    "path_type": "is not a path",
    "string_too_short": "is empty",
    "too_short": "is empty",
}


def problems_of(error: ValidationError, model: type[BaseModel], document: Document, path: Sequence[Step]) -> list[Problem]:
    """Each error of a block that stands at `path` of the file and was to be a `model`, with its line."""
    return [_problem(detail, model, document, tuple(path)) for detail in error.errors(include_url=False)]


def _problem(detail: ErrorDetails, model: type[BaseModel], document: Document, path: tuple[Step, ...]) -> Problem:
    at = _in_file(detail["loc"], document, path)
    where = ".".join(map(str, at))
    kind = detail["type"]
    if kind == "extra_forbidden":
        inside = ".".join(map(str, at[:-1]))
        message, hint = (
            f"unknown key `{at[-1]}`" + (f" in `{inside}`" if inside else ""),
            nearest(str(at[-1]), known_keys(model, detail["loc"][:-1])),
        )
    elif kind == "missing":
        message, hint = f"`{where}` is missing", None
    elif kind == "literal_error":
        expected = str(detail.get("ctx", {}).get("expected", ""))
        given = detail["input"]
        message = f"`{where}`: expected {expected}" + (f", not {given!r}" if isinstance(given, str | int | float) else "")
        hint = nearest(str(given), expected.replace("'", "").replace(" or ", ", ").split(", "))
    elif kind == "string_pattern_mismatch":
        message, hint = f"`{where}`: must match {detail.get('ctx', {}).get('pattern')}", None
    elif kind in _TEXT:
        quoted = kind == "string_type" and isinstance(detail["input"], bool | int | float)
        message, hint = f"`{where}` {_TEXT[kind]}", "write it in quotes" if quoted else None
    else:
        said = detail["msg"].removeprefix("Value error, ")
        message, hint = f"`{where}`: {said[:1].lower()}{said[1:]}", None
    return Problem(message, document.file, document.line(at), hint)


def _in_file(loc: Sequence[Step], document: Document, path: tuple[Step, ...]) -> tuple[Step, ...]:
    """Pydantic's way to a value without the steps that are not keys of the file: names of branches, of keys as such."""
    found = path
    for n, step in enumerate(loc):
        if (*found, step) in document.lines or (n == len(loc) - 1 and step != "[key]"):
            found = (*found, step)
    return found


def known_keys(model: type[BaseModel], path: Sequence[Step]) -> set[str]:
    """The keys that the model at `path` knows."""
    found: Any = model
    for step in path:
        if isinstance(found, type) and issubclass(found, BaseModel):
            found = next((f.annotation for n, f in found.model_fields.items() if step in (n, f.alias)), None)
        elif get_origin(found) in (dict, list, tuple):
            found = get_args(found)[1 if get_origin(found) is dict else 0]
        if get_origin(found) is Union or type(found).__name__ == "UnionType":
            found = next((arm for arm in get_args(found) if isinstance(arm, type) and issubclass(arm, BaseModel)), None)
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        return set()
    return {field.alias or name for name, field in found.model_fields.items()}
