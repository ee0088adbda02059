"""Schemas keep their names, and none takes the place of another."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

from millrace.launchers.api.schemas.components import Components

NUMBER = {"type": "number"}
POINTER = {"$ref": "#/components/schemas/Size"}


def test_a_name_stands_for_its_schema() -> None:
    components = Components()
    assert components.name("Size", NUMBER) == POINTER
    assert components.name("Size", dict(NUMBER)) == POINTER
    assert components == {"Size": NUMBER}


def test_another_schema_of_one_name_gets_a_number() -> None:
    components = Components({"Size": {"type": "string"}})
    assert components.name("Size", NUMBER) == {"$ref": "#/components/schemas/Size-2"}
    assert components.name("Size", {}) == {"$ref": "#/components/schemas/Size-3"}
    assert components == {"Size": {"type": "string"}, "Size-2": NUMBER, "Size-3": {}}


def test_a_name_that_is_held_is_left_to_its_owner() -> None:
    components = Components()
    components.hold("Size")
    assert components.adopt({"$ref": "#/$defs/Size", "$defs": {"Size": {}}}) == {
        "$ref": "#/components/schemas/Size-2"
    }
    assert components.name("Size", NUMBER) == POINTER


class Leaf(BaseModel):
    size: int


class Tree(BaseModel):
    children: list[Tree]
    leaf: Leaf


def test_what_pydantic_defines_is_moved() -> None:
    components = Components()
    assert components.adopt(TypeAdapter(list[Tree]).json_schema()) == {
        "type": "array",
        "items": {"$ref": "#/components/schemas/Tree"},
    }
    tree = components["Tree"]["properties"]
    assert tree["children"]["items"] == {"$ref": "#/components/schemas/Tree"}
    assert tree["leaf"] == {"$ref": "#/components/schemas/Leaf"}


def test_definitions_that_name_each_other_move_together() -> None:
    def defs(size: str) -> dict[str, Any]:
        pair = {"A": {"items": {"$ref": "#/$defs/B"}}, "B": {"type": size, "not": {"$ref": "#/$defs/A"}}}
        return {"$ref": "#/$defs/A", "$defs": pair}

    components = Components()
    assert components.adopt(defs("string")) == components.adopt(defs("string"))
    assert components.adopt(defs("number")) == {"$ref": "#/components/schemas/A-3"}
    assert components["A-3"] == {"items": {"$ref": "#/components/schemas/B-2"}}
    assert components["B-2"] == {"type": "number", "not": {"$ref": "#/components/schemas/A-3"}}
    assert components["B"] == {"type": "string", "not": {"$ref": "#/components/schemas/A"}}


def test_a_discriminator_is_moved_and_data_is_not() -> None:
    schema = {
        "discriminator": {"propertyName": "kind", "mapping": {"default": "#/$defs/Leaf"}},
        "properties": {"default": {"$ref": "#/$defs/Leaf"}},
        "default": {"$ref": "#/$defs/Leaf"},
        "$defs": {"Leaf": {}},
    }
    assert Components().adopt(schema) == {
        "discriminator": {"propertyName": "kind", "mapping": {"default": "#/components/schemas/Leaf"}},
        "properties": {"default": {"$ref": "#/components/schemas/Leaf"}},
        "default": {"$ref": "#/$defs/Leaf"},
    }


def test_names_that_openapi_cannot_have() -> None:
    components = Components()
    schema = {"$defs": {"a b": {"type": "string"}, "a/b": {"type": "number"}}, "$ref": "#/$defs/a/b"}
    assert components.adopt(schema) == {"$ref": "#/components/schemas/a_b-2"}
    assert components == {"a_b": {"type": "string"}, "a_b-2": {"type": "number"}}
