"""Whether a document is a contract of the Open Data Contract Standard, versions 3.0 to 3.2: every problem, with its line.

The JSON Schema is the one that the package `open-data-contract-standard` ships (3.2, which the standard keeps compatible with its
predecessors). What 3.0 spelled otherwise is brought into today's words first; see `modernised`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from jsonschema import Draft201909Validator
from jsonschema.exceptions import ValidationError

from pipeline.document import Document, Step
from pipeline.errors import Problem
from pipeline.names import nearest
from quality.odcs_parts import apart, is_plain, odcs_schema, without_inside

MOST_COLUMNS = 2000  # a table of Postgres has 1,600
MOST_RULES = 2000
_MOST_PROBLEMS = 200  # that are told at once
_OWN = "what is nobody's but yours stands under customProperties: [{{property: {key}, value: …}}]"
_SMALLER = "was it written by a program that went wrong?"
VERSIONS = ("v3.0.0", "v3.0.1", "v3.0.2", "v3.1.0", "v3.2.0")
OPERATORS = (
    "mustBe",
    "mustNotBe",
    "mustBeGreaterThan",
    "mustBeGreaterOrEqualTo",
    "mustBeLessThan",
    "mustBeLessOrEqualTo",
    "mustBeBetween",
    "mustNotBeBetween",
)

_METRIC_OF_RULE = {"nullCheck": "nullValues", "duplicateCount": "duplicateValues", "validValues": "invalidValues"}

Trail = tuple[Step, ...]
Finding = tuple[Trail, str, str | None]
"""Path, message, hint."""


def problems_of(document: Document, content: Mapping[str, Any]) -> list[tuple[Trail, Problem]]:
    """What the standard's schema has against `content`, which is the document's, modernised: where, and what; in the order of the file."""
    found: dict[tuple[int, str], tuple[Trail, Problem]] = {}
    for path, message, hint in _read(islice(_errors(content), _MOST_PROBLEMS)):
        line = document.line(path)
        found.setdefault((line, message), (path, Problem(message, document.file, line, hint)))
    return [found[key] for key in sorted(found)]


def version_problem(document: Document, content: Mapping[str, Any]) -> Problem | None:
    """The problem with `apiVersion` and `kind`, without which nothing else can be judged."""
    version = content.get("apiVersion")
    if version not in VERSIONS:
        if "dataContractSpecification" in content:
            said, line = "this is of the Data Contract Specification, another standard", document.line(("dataContractSpecification",))
            return Problem(said, document.file, line, "`datacontract export --format odcs` makes a contract of it that Sluice reads")
        message = (
            "apiVersion is missing"
            if version is None
            else f"apiVersion {version if isinstance(version, str) else _shown(version)} is not one that Sluice reads"
        )
        return Problem(message, document.file, document.line(("apiVersion",)), _version_hint(str(version)))
    if content.get("kind") != "DataContract":
        said = "kind is missing" if "kind" not in content else f"kind is {content['kind']!r}"
        return Problem(f"{said}; a contract says kind: DataContract", document.file, document.line(("kind",)))
    return None


def _version_hint(version: str) -> str:
    if f"v{version}" in VERSIONS:
        return f"write v{version}"
    number = re.match(r"v?(\d{1,4})(?:\.(\d{1,4}))?(?:\.|$)", version)
    if number and number[1] < "3" and len(number[1]) == 1:
        return f"contracts of the standard's version {number[1]} were written otherwise: write it as {VERSIONS[-1]} asks"
    if number and (int(number[1]), int(number[2] or 0)) > (3, 2):
        return f"newer than this Sluice: upgrade it, or write {VERSIONS[-1]} if nothing newer is used"
    return f"these are read: {', '.join(VERSIONS)}"


def size_problem(document: Document, content: Mapping[str, Any]) -> Problem | None:
    """The problem with a contract of more columns or rules than anything could judge."""
    schema = content.get("schema")
    for place, node in enumerate(schema if isinstance(schema, list) else []):
        path: Trail = ("schema", place)
        columns = node.get("properties") if isinstance(node, dict) else None
        if isinstance(columns, list) and len(columns) > MOST_COLUMNS:
            line = document.line((*path, "properties", MOST_COLUMNS))
            return Problem(f"a contract of {len(columns)} properties; {MOST_COLUMNS} are read at most", document.file, line, _SMALLER)
        holders = [(path, node), *(((*path, "properties", i), one) for i, one in enumerate(columns if isinstance(columns, list) else []))]
        room = MOST_RULES
        for where, holder in holders:
            rules = holder.get("quality") if isinstance(holder, dict) else None
            room -= len(rules) if isinstance(rules, list) else 0
            if room < 0:
                return Problem(f"a contract of more than {MOST_RULES} rules", document.file, document.line((*where, "quality")), _SMALLER)
    return None


def modernised(content: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which what 3.0 wrote in another way is written as 3.2 does.

    `rule` of a library check becomes `metric`, its arguments move into `arguments`, and no operator means none may fail;
    `exclusiveMinimum: true` beside `minimum` becomes `exclusiveMinimum` with the value.
    """
    modern: dict[str, Any] = copy.deepcopy(dict(content))
    if str(modern.get("apiVersion")).startswith("v3.0."):
        for holder in _holders(modern.get("schema")):
            checks = holder.get("quality")
            for check in checks if isinstance(checks, list) else []:
                if isinstance(check, dict) and check.get("type", "library") == "library":
                    _modernise_check(check)
            if isinstance(holder.get("logicalTypeOptions"), dict):
                _modernise_options(holder["logicalTypeOptions"])
    return modern


def sound_part(content: Mapping[str, Any], broken: Iterable[Trail]) -> dict[str, Any]:
    """The schema of a contract without what is broken: such an entry of `quality` becomes text, such a property keeps its name alone."""
    schema = content.get("schema")
    if not isinstance(schema, list) or not schema or not all(isinstance(item, dict) for item in schema):
        return {}
    for path in broken:
        if path[:2] != ("schema", 0) or len(path) < 3:
            continue
        holder, rest = schema[0], path[2:]
        if rest[0] == "properties" and len(rest) > 1 and isinstance(holder.get("properties"), list):
            holder, rest = holder["properties"][rest[1]], rest[2:]
        if len(rest) > 1 and rest[0] == "quality" and isinstance(holder.get("quality"), list):
            holder["quality"][rest[1]] = {"type": "text"}
        elif holder is schema[0]:
            holder.pop(rest[0], None)
        elif isinstance(holder, dict):
            name = holder.get("name")
            holder.clear()
            holder.update({"name": name} if isinstance(name, str) else {})
        else:
            schema[0].pop("properties", None)
    if isinstance(schema[0].get("properties"), list):
        schema[0]["properties"] = [node if isinstance(node, dict) and "name" in node else None for node in schema[0]["properties"]]
    return {"schema": schema}


def _holders(schema: object) -> Iterator[dict[str, Any]]:
    """Every object and property of the schema, however deep."""
    for item in schema if isinstance(schema, list) else [schema]:
        if isinstance(item, dict):
            yield item
            for part in ("properties", "items"):
                yield from _holders(item.get(part))


def _modernise_check(check: dict[str, Any]) -> None:
    if "rule" in check and "metric" not in check:
        rule = check.pop("rule")
        check["metric"] = _METRIC_OF_RULE.get(rule, rule)
        for argument in ("validValues", "pattern", "missingValues", "properties"):
            if argument in check:
                check.setdefault("arguments", {})[argument] = check.pop(argument)
        if check["metric"] != "rowCount" and not any(operator in check for operator in OPERATORS):
            check["mustBe"] = 0


def _modernise_options(options: dict[str, Any]) -> None:
    for exclusive, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        flag = options.get(exclusive)
        if isinstance(flag, bool):
            del options[exclusive]
        if flag is True and limit in options:
            options[exclusive] = options.pop(limit)


@cache
def _validator(kind: str | None = None) -> Draft201909Validator:
    """Of a whole contract, or of what a definition of the schema is for."""
    schema = odcs_schema()
    return Draft201909Validator(schema if kind is None else {"$defs": schema["$defs"], "$ref": f"#/$defs/{kind}"})


def _errors(content: Mapping[str, Any]) -> Iterator[ValidationError]:
    """Judges every property by itself: the schema asks several times for what is inside each, so a deep one would never end."""
    whole, parts = apart(content)
    yield from _validator().iter_errors(whole)
    while parts:
        path, kind, node = parts.pop()
        node, inside = without_inside(path, kind, node)
        parts += inside
        if is_plain(node):
            continue
        for error in _validator(kind).iter_errors(node):
            error.relative_path.extendleft(reversed(path))
            yield error


def _read(errors: Iterable[ValidationError]) -> Iterator[Finding]:
    """What the validator's errors mean. Keys that were left over because something beside them is wrong are not mentioned."""
    listed = list(errors)
    broken = {tuple(error.absolute_path) for error in listed if error.validator != "unevaluatedProperties"}
    for error in listed:
        path: Trail = tuple(error.absolute_path)
        if error.validator == "required" and _spelled_as_before(error):
            continue  # said of the key that is there
        if error.validator in ("unevaluatedProperties", "additionalProperties"):
            excused = any(other[: len(path)] == path for other in broken)
            yield from _leftover(error, path, excused=excused)
        elif error.validator in ("oneOf", "anyOf"):
            yield from _alternatives(error, path)
        else:
            yield _plain(error, path)


def _spelled_as_before(error: ValidationError) -> bool:
    """Whether a metric is missing only because it is written as 3.0 wrote it."""
    instance: Any = error.instance
    return "'metric'" in error.message and "rule" in instance and "metric" not in instance


def _leftover(error: ValidationError, path: Trail, *, excused: bool) -> Iterator[Finding]:
    instance: Any = error.instance
    known, plain = _keys(error.schema, conditional=True), _keys(error.schema, conditional=False)
    if "rule" in instance and "metric" in known and "metric" not in instance:
        yield (*path, "rule"), f"unknown key 'rule' in {_place(path)}", "since 3.1 this is called metric"
        return
    excused |= any(key not in known for key in instance)
    for key in instance:
        if key not in known:
            yield (*path, key), f"unknown key {key!r} in {_place(path)}", nearest(str(key), known) or _OWN.format(key=key)
        elif error.validator == "unevaluatedProperties" and not excused and key not in plain and repr(key) in error.message:
            kind = instance.get("type") or instance.get("logicalType")
            yield (*path, key), f"{key!r} has no meaning in {_place(path)}" + (f", whose type is {kind}" if kind else ""), None


def _alternatives(error: ValidationError, path: Trail) -> Iterator[Finding]:
    instance: Any = error.instance
    inner_errors: list[ValidationError] = list(error.context or ())
    if _has_operators(error.schema):
        if not isinstance(instance, dict):
            return  # its type is wrong, which is told besides
        present = [key for key in OPERATORS if key in instance]
        if len(present) == 1:
            yield from _read(inner for inner in inner_errors if present[0] in inner.absolute_path)
        elif present:
            hint = "a range is written mustBeBetween: [low, high]"
            yield (*path, present[1]), f"one operator is wanted, not {' and '.join(present)}", hint
        else:
            yield path, f"{_place(path)} has no operator", f"one of {', '.join(OPERATORS)}"
        return
    branches: dict[object, list[ValidationError]] = {}
    for inner in inner_errors:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    of_another_kind = [inner for inner in inner_errors if inner.validator == "type" and not inner.path]
    fitting = [branch for branch in branches.values() if not any(inner in of_another_kind for inner in branch)]
    if fitting:
        closest: list[ValidationError] = min(fitting, key=len)
        yield from _read(closest)
    else:
        wanted = " or ".join(_with_article(inner.validator_value) for inner in of_another_kind)
        yield path, f"{_place(path)} must be {wanted}, not {_shown(instance)}", None


def _plain(error: ValidationError, path: Trail) -> Finding:
    instance: Any = error.instance
    wanted: Any = error.validator_value
    match error.validator:
        case "required":
            missing = error.message.split("'")[1]
            return path, f"{missing} is missing in {_place(path)}", None
        case "type":
            hint = "put it in quotes" if wanted == "string" and isinstance(instance, int | float) else None
            return path, f"{_place(path)} must be {_with_article(wanted)}, not {_shown(instance)}", hint
        case "enum":
            return path, f"{_place(path)} cannot be {_shown(instance)}", nearest(str(instance), map(str, wanted))
        case "pattern":
            return path, f"{_place(path)} has characters that are not allowed there: {_shown(instance)}", f"it must match {wanted}"
        case _:
            return path, f"{_place(path)}: {error.message[:200]}", None


def _place(path: Trail) -> str:
    """`schema[0].properties[2].quality[0]`, as people write it."""
    written = ""
    for step in path:
        written += f"[{step}]" if isinstance(step, int) else f".{step}" if written else step
    return written or "the contract"


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "a mapping"
    return repr(value)[:80]


def _with_article(kind: object) -> str:
    words = {
        "string": "text",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "array": "a list",
        "object": "a mapping",
    }
    return " or ".join(words.get(str(one), str(one)) for one in (kind if isinstance(kind, list) else [kind]))


def _has_operators(schema: Any) -> bool:
    return isinstance(schema, dict) and any("mustBe" in branch.get("required", ()) for branch in schema.get("oneOf", ()))


def _keys(schema: Any, *, conditional: bool) -> set[str]:
    """Keys that a schema knows: its own and those of what it always includes, or also of what it includes under a condition."""
    if not isinstance(schema, dict):
        return set()
    found = set(schema.get("properties", ()))
    if "$ref" in schema:
        target: Any = odcs_schema()
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        found |= _keys(target, conditional=conditional)
    for part in schema.get("allOf", ()):
        found |= _keys(part, conditional=conditional)
    if conditional:
        for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), schema.get("then"), schema.get("else")):
            found |= _keys(part, conditional=True)
    return found
