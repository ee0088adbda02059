"""A sample is what its schema wants, so that the form at /docs can be sent as it stands."""

from __future__ import annotations

import datetime
import enum
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import jsonschema
import pytest
from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MultipleOf
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from millrace import Message
from millrace.launchers.api.schemas.components import Components
from millrace.launchers.api.schemas.samples import sample_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(NamedTuple):
    wide: int
    high: int


class Named(TypedDict):
    name: str


@dataclass
class Part:
    sizes: list[Size]
    colour: Colour | None = None


class Tree(BaseModel):
    """Contains itself, also where it must."""

    name: str = Field(examples=["oak"])
    parts: dict[str, Part]
    best: Tree | None = None
    children: Annotated[list[Tree], Len(1)] | str = "none"
    named: Named


KINDS: list[Any] = [
    str,
    int,
    float,
    bool,
    None,
    Any,
    bytes,
    list[int],
    set[str],
    tuple[int, str],
    tuple[int, ...],
    dict[str, list[int]],
    Literal["a", "b"],
    Literal[3],
    Colour,
    Size,
    Named,
    Part,
    Tree,
    Message,
    str | list[Message],
    int | None,
    datetime.datetime,
    datetime.date,
    datetime.timedelta,
    UUID,
    Annotated[str, Len(10)],
    Annotated[str, Len(0, 2)],
    Annotated[list[int], Len(3)],
    Annotated[int, Gt(7)],
    Annotated[int, Ge(-3), Le(-1)],
    Annotated[float, Gt(0), Lt(0.5)],
    Annotated[float, Interval(ge=2)],
    Annotated[int, Lt(0)],
    Annotated[int, MultipleOf(5), Gt(2)],
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_it_fits(kind: Any) -> None:
    components = Components()
    adapter = TypeAdapter(kind)
    schema = components.adopt(adapter.json_schema())
    sample = sample_of(schema, components)
    whole = {**schema, "components": {"schemas": components}}
    jsonschema.validate(sample, whole, jsonschema.Draft202012Validator)
    adapter.validate_json(json.dumps(sample), strict=True)


def test_the_authors_examples_come_first() -> None:
    kind = Annotated[str, Field(examples=["one", "two"])]
    assert sample_of(TypeAdapter(kind).json_schema(), {}) == "one"
    assert sample_of({"type": "integer", "default": 3}, {}) == 3
    components = Components()
    schema = components.adopt(TypeAdapter(Tree).json_schema())
    assert sample_of(schema, components)["name"] == "oak"


def test_what_must_contain_itself_comes_to_an_end() -> None:
    endless = {
        "type": "object",
        "required": ["next"],
        "properties": {"next": {"$ref": "#/components/schemas/E"}},
    }
    listed = {"type": "array", "minItems": 2, "items": {"$ref": "#/components/schemas/L"}}
    assert "next" in sample_of(endless, {"E": endless})
    assert len(str(sample_of(listed, {"L": listed}))) < 100_000


def test_a_pattern_is_beyond_it() -> None:
    assert sample_of({"type": "string", "pattern": "^[0-9]$"}, {}) == "text"
