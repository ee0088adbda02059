"""Samples: a value that fits a JSON schema, for the form in which a reader tries an endpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .components import REF, Schema

__all__ = ["sample_of"]

DEEPEST = 12

FORMATS: Mapping[str, str] = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "uuid": "2f0c5a1e-7d54-4d5e-9d0a-5b2f1c3e4a6b",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
}


def sample_of(schema: Schema, components: Mapping[str, Schema], depth: int = 0) -> Any:
    """A value that fits, of the author's own examples where there are some; where a schema is intricate, nearly."""
    if "$ref" in schema:
        schema = {**components.get(schema["$ref"].removeprefix(REF), {}), **schema}
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    for keyword in ("example", "const", "default"):
        if keyword in schema:
            return schema[keyword]
    for keyword in ("anyOf", "oneOf", "allOf"):
        if schema.get(keyword):
            return sample_of(_simplest(schema[keyword], depth), components, depth + 1)
    return _of_type(schema, components, depth)


def _simplest(choices: list[Schema], depth: int) -> Schema:
    """The first; deep down one without further parts, so that what contains itself comes to an end."""
    plain = [
        choice for choice in choices if "$ref" not in choice and choice.get("type") not in ("array", "object")
    ]
    return plain[0] if plain and depth > DEEPEST // 2 else choices[0]


def _of_type(schema: Schema, components: Mapping[str, Schema], depth: int) -> Any:
    match schema.get("type"):
        case [str() as kind, *_]:
            return _of_type({**schema, "type": kind}, components, depth)
        case "object":
            return _object(schema, components, depth)
        case "array":
            return _array(schema, components, depth)
        case "string":
            text = FORMATS.get(schema.get("format", ""), "text")
            return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
        case "integer" | "number" as kind:
            return _number(schema, kind)
        case "boolean":
            return True
        case "null":
            return None
    return "text"


def _object(schema: Schema, components: Mapping[str, Schema], depth: int) -> dict[str, Any]:
    """With what need not be given too, as long as it is not deep down."""
    needed = schema.get("required", ())
    if depth >= DEEPEST:
        return {}
    return {
        name: sample_of(part, components, depth + 1)
        for name, part in schema.get("properties", {}).items()
        if name in needed or depth < DEEPEST // 2
    }


def _array(schema: Schema, components: Mapping[str, Schema], depth: int) -> list[Any]:
    if depth >= DEEPEST:
        return []
    first = [sample_of(part, components, depth + 1) for part in schema.get("prefixItems", ())]
    items = schema.get("items")
    wanted = max(schema.get("minItems", 0), 0 if first else 1)
    if isinstance(items, dict):
        first += [sample_of(items, components, depth + 1) for _ in range(min(wanted, DEEPEST) - len(first))]
    return first


def _number(schema: Schema, kind: str) -> float:
    """0 or 1, or what is nearest to a limit."""
    step = schema.get("multipleOf", 1)
    low: Any = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high: Any = schema.get("maximum", schema.get("exclusiveMaximum", low))
    tried = (0, 1, step, low, low + step, high - step, high, (low + high) / 2)
    fitting = (number for number in tried if _fits(number, schema))
    number = next(fitting, 0)
    return int(number) if kind == "integer" else number


def _fits(number: float, schema: Schema) -> bool:
    get = schema.get
    return (
        get("minimum", -math.inf) <= number <= get("maximum", math.inf)
        and get("exclusiveMinimum", -math.inf) < number < get("exclusiveMaximum", math.inf)
        and not ("multipleOf" in schema and number % schema["multipleOf"])
    )
