"""What a chat request wants beside text: tools, whether they must be called, and the form of the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..abilities import Abilities
from .parameters import check_json, check_keys, check_text, flag, invalid, unsupported

__all__ = ["Tool", "schema_of", "tool_choice_of", "tools_of"]

Tool = Mapping[str, Any]

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MOST_TOOLS = 128
ANY_OBJECT = {"type": "object"}


def tools_of(given: Any, able: Abilities) -> tuple[Tool, ...] | None:
    """The functions that the model may call, in OpenAI's form; None where there are none.

    Raises:
        Refusal: 400, naming the tool.
    """
    if given is None or given == []:
        return None
    if not able.tools:
        raise unsupported("tools", f"cannot be used: {able.lack}")
    if not isinstance(given, list):
        raise invalid("tools must be a list of functions", "tools")
    if len(given) > MOST_TOOLS:
        raise invalid(f"tools may have {MOST_TOOLS} functions at most", "tools")
    tools = tuple(_tool(item, f"tools[{i}]") for i, item in enumerate(given))
    names = [tool["function"]["name"] for tool in tools]
    for i, name in enumerate(names):
        if name in names[:i]:
            where = f"tools[{i}].function.name"
            raise invalid(f"{where} is {name!r} a second time; names tell functions apart", where)
    return tools


def _tool(item: Any, where: str) -> Tool:
    if not isinstance(item, dict):
        raise invalid(f"{where} must be an object with type and function", where)
    if (kind := item.get("type")) != "function":
        shown = kind[:60] if isinstance(kind, str) else "something else"
        raise invalid(
            f"{where} is {shown}, and only tools of type function are supported here",
            f"{where}.type",
            "unsupported_parameter",
        )
    check_keys(item, ("type", "function"), where)
    return {"type": "function", "function": _function(item.get("function"), f"{where}.function")}


def _function(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise invalid(f"{where} must be an object with a name", where)
    check_keys(given, ("name", "description", "parameters", "strict"), where)
    made: dict[str, Any] = {"name": _name(given.get("name"), f"{where}.name")}
    if (description := given.get("description")) is not None:
        made["description"] = check_text(description, f"{where}.description")
    if (parameters := given.get("parameters")) is not None:
        if not isinstance(parameters, dict):
            raise invalid(f"{where}.parameters must be a JSON schema", f"{where}.parameters")
        made["parameters"] = check_json(parameters, f"{where}.parameters")
    if (strict := given.get("strict")) is not None:
        made["strict"] = flag(strict, f"{where}.strict")
    return made


def _name(given: Any, where: str) -> str:
    if not isinstance(given, str) or not NAME.fullmatch(given):
        raise invalid(f"{where} must be 1 to 64 letters, digits, underscores and dashes", where)
    return given


def tool_choice_of(given: Any, tools: Sequence[Tool] | None, able: Abilities) -> Any:
    """Whether tools must be called: None, "none", "required", or one function in OpenAI's form.

    Raises:
        Refusal: 400.
    """
    name = _named(given)
    if given is None or given == "auto" or (given == "none" and not able.tools):
        return None
    if given == "none":
        return given
    if given != "required" and name is None:
        raise invalid(
            'tool_choice must be none, auto, required, or {"type": "function", "function": {"name": "..."}}',
            "tool_choice",
        )
    if not tools:
        raise invalid("tool_choice needs tools to choose from", "tool_choice")
    if not able.demands:
        raise unsupported("tool_choice", f"can be none or auto only: {able.lack}")
    if name is None:
        return given
    if name not in [tool["function"]["name"] for tool in tools]:
        raise invalid("tool_choice names a function that tools does not have", "tool_choice")
    return {"type": "function", "function": {"name": name}}


def _named(given: Any) -> str | None:
    """The name of the one function that is to be called."""
    if not isinstance(given, dict) or given.get("type") != "function":
        return None
    function = given.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) and set(given) == {"type", "function"} else None


def schema_of(given: Any, able: Abilities) -> Mapping[str, Any] | None:
    """The JSON schema that a `response_format` asks for; None for text.

    Raises:
        Refusal: 400.
    """
    name = "response_format"
    kind = given.get("type") if isinstance(given, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise invalid(f"{name}.type must be text, json_object or json_schema", name)
    check_keys(given, ("type", "json_schema") if kind == "json_schema" else ("type",), name)
    if kind == "text":
        return None
    if not able.demands:
        raise unsupported(name, f"can be text only: {able.lack}")
    return ANY_OBJECT if kind == "json_object" else _schema(given.get("json_schema"), f"{name}.json_schema")


def _schema(given: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise invalid(f"{where} must be an object with name and schema", where)
    check_keys(given, ("name", "description", "schema", "strict"), where)
    _name(given.get("name"), f"{where}.name")
    if (description := given.get("description")) is not None:
        check_text(description, f"{where}.description")
    if (strict := given.get("strict")) is not None:
        flag(strict, f"{where}.strict")
    schema = given.get("schema")
    if not isinstance(schema, dict):
        raise invalid(f"{where}.schema must be a JSON schema", f"{where}.schema")
    checked: Mapping[str, Any] = check_json(schema, f"{where}.schema")
    return checked
