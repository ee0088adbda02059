"""Grammars: tool calls in the syntax of llguidance, so that a demanded call is made, and a strict one fits its schema.

The syntax is that of https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md: Lark's, with JSON schemas
(`%json`), tokens by their id (`<[7]>`) and lexemes that end as soon as they can (`[lazy]`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .answer_parts import Tags

__all__ = ["Offered", "grammar_of_calls"]

STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""White space in a call as `json.dumps` writes it, and as models have seen it."""

Terminal = Callable[[str], str]
"""A tag in the grammar: as the one token that it is, or as text."""


@dataclass(frozen=True, slots=True)
class Offered:
    """The functions that a model may call, in OpenAI's form, and the tags around a call."""

    tools: tuple[Mapping[str, Any], ...]
    tags: Tags
    demanded: bool = False
    """The answer has to be a call of one of them."""

    @property
    def functions(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(tool["function"] for tool in self.tools)

    @property
    def strict(self) -> bool:
        """Whether the arguments of some function have to fit its schema."""
        return any(function.get("strict") for function in self.functions)


def grammar_of_calls(offered: Offered, terminal: Terminal, schema: Mapping[str, Any] | None) -> str:
    """The grammar of an answer: calls where they are demanded; else calls or JSON of `schema`; else text and calls."""
    rules = list(_calls(offered, terminal))
    if offered.demanded:
        rules.append("start: calls")
    elif schema is not None:
        compact = {**schema, "x-guidance": {"whitespace_flexible": False}}
        rules += ["start: calls | answer", f"answer: %json {json.dumps(compact)}"]
    else:
        rules += _among_text(offered.tags, terminal)
    return "\n".join(rules)


def _calls(offered: Offered, terminal: Terminal) -> Iterator[str]:
    """The rules `calls` and `inside`, which is what follows an opening tag."""
    tags, functions = offered.tags, offered.functions
    opening = terminal(tags.opening)
    several = len(functions) > 1 or not offered.demanded
    yield f"one: {' | '.join(f'one_{i}' for i in range(len(functions)))}"
    for i, function in enumerate(functions):
        yield from _call(i, function, tags)
    if tags.closing is not None:
        yield f'inside: "\\n"? one "\\n"? {terminal(tags.closing)}'
    elif tags.listed:
        yield 'inside: "[" one' + (' (", " one)*' if several else "") + ' "]"'
    else:
        yield "inside: one"
    yield f"calls: {opening} inside" + (f' ("\\n"? {opening} inside)*' if several and tags.closing else "")


def _call(i: int, function: Mapping[str, Any], tags: Tags) -> Iterator[str]:
    before = f'{{"name": {json.dumps(function["name"])}, "{tags.arguments}": '
    schema = {
        "type": "object",
        **(function.get("parameters") or {}),
        "x-guidance": {**STYLE, "lenient": not function.get("strict")},
    }
    yield f'one_{i}: {json.dumps(before)} %json {json.dumps(schema)} "}}"'


def _among_text(tags: Tags, terminal: Terminal) -> Iterator[str]:
    """A tag that is a token of its own may be spelled as well: a call is a call, however it begins."""
    token, text = terminal(tags.opening), json.dumps(tags.opening)
    yield "start: (head inside)* TEXT"
    yield "head: spelled" + (f" | TEXT {token}" if token != text else "")
    yield f"spelled[lazy]: TEXT {text}"
    yield "TEXT: /(.|\\n)*/"
