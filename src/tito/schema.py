"""The part of JSON Schema that the course's records use, checked in a screenful.

It knows type, enum, required, properties, additionalProperties, items, minimum, maximum, pattern.
Source: JSON Schema, draft 2020-12.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,),
    "number": (int, float), "boolean": (bool,),
}  # fmt: skip


def problems(value: Any, schema: dict[str, Any], where: str = "") -> Iterator[str]:
    """What is wrong with the value, one sentence each, in the order of the schema.

    >>> list(problems({"n": 0}, {"properties": {"n": {"minimum": 1}}, "required": ["n", "m"]}))
    ['m is missing', 'n is 0, and at least 1 is allowed']
    """
    here = where or "the record"
    if "enum" in schema and not any(value == one and type(value) is type(one)
                                    for one in schema["enum"]):  # fmt: skip
        known = ", ".join(map(str, schema["enum"]))
        yield f"{here} is {_short(value)}, and must be {known}"
    elif "type" in schema and not _is(value, schema["type"]):
        yield f"{here} is {_short(value)}, and must be of type {schema['type']}"
    elif isinstance(value, dict):
        yield from _object(value, schema, where)
    elif isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from problems(item, schema["items"], f"{here}[{number}]")
    elif isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{here} is {_short(value)}, which is not written as {schema['pattern']}"
    elif isinstance(value, (int, float)):
        yield from _number(value, schema, here)


def _object(value: dict[str, Any], schema: dict[str, Any], where: str) -> Iterator[str]:
    known, other = schema.get("properties", {}), schema.get("additionalProperties", True)
    lead = f"{where}." if where else ""
    yield from (f"{lead}{name} is missing" for name in schema.get("required", ())
                if name not in value)  # fmt: skip
    for name, part in value.items():
        if name in known:
            yield from problems(part, known[name], f"{lead}{name}")
        elif other is False:
            yield f"{lead}{name} has no place in it"
        elif isinstance(other, dict):
            yield from problems(part, other, f"{lead}{name}")


def _number(value: float, schema: dict[str, Any], here: str) -> Iterator[str]:
    if not math.isfinite(value):
        yield f"{here} is {value}, which is not a number"
    elif value < schema.get("minimum", -math.inf):
        yield f"{here} is {value:g}, and at least {schema['minimum']:g} is allowed"
    elif value > schema.get("maximum", math.inf):
        yield f"{here} is {value:g}, and at most {schema['maximum']:g} is allowed"


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
