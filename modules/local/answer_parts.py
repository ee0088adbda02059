"""AnswerSplitter: tells reasoning and tool calls apart from the answer, wherever their tags are cut."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ...streaming.events import ToolCall, ToolCallDelta

__all__ = ["AnswerParts", "AnswerSplitter", "CallParser", "Tags", "parse_calls", "tags_of"]

Kind = Literal["text", "reasoning", "call"]
CallParser = Callable[[str], "list[tuple[str, str]]"]
"""The name and the arguments (JSON text) of each call in what stood between the tags; ValueError where it is none."""


@dataclass(frozen=True, slots=True)
class Tags:
    """Where a part begins and ends; without `closing` it goes on to the end of the answer."""

    opening: str
    closing: str | None
    listed: bool = False
    """Calls stand there as a list, and not one by one."""
    arguments: str = "arguments"
    """What a call calls them."""


REASONING = (Tags("<think>", "</think>"), Tags("<thinking>", "</thinking>"), Tags("[THINK]", "[/THINK]"))
CALLS = (
    Tags("<tool_call>", "</tool_call>"),
    Tags("[TOOL_CALLS]", None, listed=True),
    Tags("<|python_tag|>", None, arguments="parameters"),
)
"""As the templates of Hermes and Qwen, of Mistral, and of Llama 3 have them."""


def tags_of(template: str) -> tuple[Tags | None, Tags | None]:
    """The tags of reasoning and of tool calls that a chat template knows."""

    def first(known: Iterable[Tags]) -> Tags | None:
        return next((tags for tags in known if tags.opening in template), None)

    return first(REASONING), first(CALLS)


@dataclass(slots=True)
class AnswerParts:
    """What a piece of an answer adds."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta | ToolCall, ...] = ()


class AnswerSplitter:
    """Takes an answer piece by piece, and gives its parts as soon as they are known.

    Reasoning stands at the beginning only, between its tags, or from the beginning where the prompt has opened it;
    a tag that the answer mentions later is text. White space around it belongs to nobody. A tool call is held
    from its opening tag on and given in whole at the closing one; what cannot be read as a call is text again.

    Args:
        reasoning: the tags of reasoning; None: none is looked for.
        opened: the prompt ends with the opening tag.
        calls: the tags of tool calls; None: none are looked for.
        parse: reads what stands between them.
    """

    def __init__(
        self,
        reasoning: Tags | None = None,
        opened: bool = False,
        calls: Tags | None = None,
        parse: CallParser | None = None,
    ) -> None:
        self.called = 0
        """How many calls have been given."""
        self._reasoning = reasoning
        self._calls = calls
        self._parse = parse or parse_calls
        self._held = ""
        self._state: Literal["begin", "reasoning", "after", "text", "call"] = "text"
        self._bare = False
        """Whether only white space has come since the part began, which is left out."""
        if reasoning is not None:
            self._state = "reasoning" if opened else "begin"
            self._bare = opened

    @property
    def reasons(self) -> bool:
        """The answer itself has not begun."""
        return self._state == "reasoning"

    def push(self, text: str) -> AnswerParts:
        """Takes the next piece; returns what may go out."""
        parts = AnswerParts()
        self._held += text
        while self._step(parts):
            pass
        return parts

    def flush(self) -> AnswerParts:
        """The rest, at the answer's end."""
        parts = AnswerParts()
        held, self._held = self._held, ""
        if self._state == "call":
            assert self._calls is not None
            self._call(parts, held, self._calls.opening)
        elif self._state == "reasoning":
            parts.reasoning += held.rstrip() if not self._bare else held.strip()
        else:
            parts.text += held
        return parts

    def _step(self, parts: AnswerParts) -> bool:
        """One move through what is held; False when it has to wait for more."""
        if self._state == "begin":
            return self._begin()
        if self._state == "reasoning":
            return self._reason(parts)
        if self._state == "after":
            self._held = self._held.lstrip()
            self._state = "text" if self._held else "after"
            return bool(self._held)
        if self._state == "call":
            return self._collect(parts)
        return self._say(parts)

    def _begin(self) -> bool:
        assert self._reasoning is not None
        seen, opening = self._held.lstrip(), self._reasoning.opening
        if seen.startswith(opening):
            self._held, self._state, self._bare = seen[len(opening) :], "reasoning", True
            return True
        if opening.startswith(seen):
            return False
        self._state = "text"
        return True

    def _reason(self, parts: AnswerParts) -> bool:
        assert self._reasoning is not None
        assert self._reasoning.closing is not None
        if self._bare:
            self._held = self._held.lstrip()
            self._bare = not self._held
        before, closing, after = self._held.partition(self._reasoning.closing)
        if closing:
            parts.reasoning += before.rstrip()
            self._held, self._state = after, "after"
            return True
        keep = _kept(self._held, self._reasoning.closing, spaces=True)
        parts.reasoning += self._held[:keep]
        self._held = self._held[keep:]
        return False

    def _say(self, parts: AnswerParts) -> bool:
        if self._calls is None:
            parts.text += self._held
            self._held = ""
            return False
        before, opening, after = self._held.partition(self._calls.opening)
        if opening:
            parts.text += before
            self._held, self._state = after, "call"
            return True
        keep = _kept(self._held, self._calls.opening)
        parts.text += self._held[:keep]
        self._held = self._held[keep:]
        return False

    def _collect(self, parts: AnswerParts) -> bool:
        assert self._calls is not None
        if self._calls.closing is None:
            return False
        inside, closing, after = self._held.partition(self._calls.closing)
        if not closing:
            return False
        was_call = self._call(parts, inside, self._calls.opening, closing)
        self._held, self._state = after, "after" if was_call else "text"
        return True

    def _call(self, parts: AnswerParts, inside: str, opening: str, closing: str = "") -> bool:
        """Gives what stood between the tags; false where it is no call, and so text."""
        try:
            found = self._parse(inside)
        except ValueError:
            parts.text += opening + inside + closing
            return False
        for name, arguments in found:
            key = f"call_{uuid.uuid4().hex[:24]}"
            parts.tool_calls += (
                ToolCallDelta(self.called, key, name, arguments),
                ToolCall(key, name, arguments),
            )
            self.called += 1
        return True


def _kept(text: str, tag: str, spaces: bool = False) -> int:
    """Where the end of the text begins that may become the tag; with `spaces`, the white space before it too."""
    start = next(
        (at for at in range(max(0, len(text) - len(tag) + 1), len(text)) if tag.startswith(text[at:])),
        len(text),
    )
    return len(text[:start].rstrip()) if spaces else start


# ---------------------------------------------------------------- calls

_FUNCTION = re.compile(r"<function=([^<>\s]+)>")
_PARAMETER = re.compile(r"<parameter=([^<>\s]+)>\n?")


def parse_calls(inside: str) -> list[tuple[str, str]]:
    """Reads the calls in what stood between the tags.

    `{"name": ..., "arguments": {...}}` (or `parameters`), a list of such, or Qwen's
    `<function=name><parameter=key>value</parameter></function>`.

    Raises:
        ValueError: it is none of these.
    """
    inside = inside.strip()
    found = _FUNCTION.match(inside)
    try:
        if found is not None:
            values = dict(_parameters(inside[found.end() :].removesuffix("</function>")))
            return [(found[1], json.dumps(values, ensure_ascii=False))]
        made = json.loads(inside)
        return [_one(call) for call in (made if isinstance(made, list) else [made])]
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _parameters(text: str) -> Iterator[tuple[str, Any]]:
    """Each with its value, in time that grows with the text, whatever stands in it."""
    at = 0
    while (found := _PARAMETER.search(text, at)) is not None:
        end = text.find("</parameter>", found.end())
        if end < 0:
            return
        yield found[1], _value(text[found.end() : end].removesuffix("\n"))
        at = end


def _one(call: Any) -> tuple[str, str]:
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        call = call["function"]
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise ValueError("a call has a name")
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        json.loads(arguments)
        return call["name"], arguments
    return call["name"], json.dumps(arguments, ensure_ascii=False)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
