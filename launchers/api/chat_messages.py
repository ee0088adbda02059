"""The messages of a chat request, checked one by one."""

from __future__ import annotations

from typing import Any

from ...streaming.messages import FunctionCall, Message
from .parameters import check_text, invalid

__all__ = ["FIELDS", "PART_FIELDS", "ROLES", "check_turn", "conversation_of", "message_of", "messages_of"]

SENT_BACK = frozenset(
    [
        "annotations",
        "audio",
        "function_call",
        "id",
        "parsed",
        "phase",
        "provider_specific_fields",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "refusal",
        "status",
        "thinking_blocks",
        "type",
    ]
)
"""What stands in the messages that servers give, or clients read from them, and comes back as it was."""

FIELDS = SENT_BACK | {"role", "content", "name", "tool_calls", "tool_call_id", "cache_control"}
"""What a message may say, whether it is used, refused, or changes nothing about the answer."""

PART_FIELDS = frozenset(["type", "text", "annotations", "logprobs", "cache_control"])

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def conversation_of(given: Any, takes_results: bool) -> list[Message]:
    """All messages of a request; the last one is a user's, or a tool's where the flow `takes_results`.

    Raises:
        Refusal: 400, naming the message.
    """
    if given is None:
        raise invalid('messages is missing; send [{"role": "user", "content": "..."}]', "messages")
    messages = messages_of(given, "messages")
    if messages and messages[-1].role == "user":
        return messages  # as nearly always
    last = f"messages[{len(messages) - 1}]"
    check_turn(messages, "messages", last, "user", "tool")
    if not takes_results:
        raise invalid(
            "the last message is a tool's, and this flow begins with no model that could take it; "
            "end with a message of role user",
            f"{last}.role",
            "unsupported_parameter",
        )
    return messages


def check_turn(messages: list[Message], name: str, last: str, *roles: str) -> None:
    """Whether it is the model's turn to speak, after one of `roles`; `last` is where the last message stands.

    Raises:
        Refusal: 400, naming the part.
    """
    if not messages:
        raise invalid(f"{name} is empty; it needs at least one message, of role user", name)
    if (role := messages[-1].role) not in roles:
        raise invalid(f"the last message must be of role {' or '.join(roles)}, not {role}", f"{last}.role")


def messages_of(given: Any, name: str) -> list[Message]:
    """Messages as a client sends them, in the field `name`.

    Raises:
        Refusal: 400, naming the part.
    """
    if not isinstance(given, list):
        raise invalid(f"{name} must be a list of objects with role and content", name)
    return [_plain(item) or message_of(item, f"{name}[{i}]") for i, item in enumerate(given)]


def _plain(item: Any) -> Message | None:
    """A message that is a role and a text, as most are; None: look closer."""
    if type(item) is not dict or len(item) != 2:
        return None
    role, content = item.get("role"), item.get("content")
    if type(role) is not str or type(content) is not str or not content.isascii() or role not in ROLES:
        return None
    return Message(ROLES[role], content)  # type: ignore[arg-type]


def message_of(item: Any, where: str, parts: tuple[str, ...] = ("text",)) -> Message:
    """One of them, at `where` in the request; `parts` are the kinds of parts that its content may have.

    Raises:
        Refusal: 400, naming the part.
    """
    if not isinstance(item, dict):
        raise invalid(f"{where} must be an object with role and content", where)
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise invalid(f"{where}.role must be one of {', '.join(ROLES)}", f"{where}.role")
    content = item.get("content")
    for name in ("function_call", "audio"):
        if item.get(name) is not None:
            raise invalid(
                f"{where}.{name} is not supported here; leave such messages out",
                f"{where}.{name}",
                "unsupported_parameter",
            )
    _check_fields(item, FIELDS, where)
    calls = _calls(item.get("tool_calls"), role, f"{where}.tool_calls")
    text = "" if calls and content is None else _content(content, f"{where}.content", parts)
    key = _call_id(item.get("tool_call_id"), role, f"{where}.tool_call_id")
    return Message(ROLES[role], text, {}, calls, key)  # type: ignore[arg-type]


# ---------------------------------------------------------------- content


def _content(content: Any, where: str, parts: tuple[str, ...]) -> str:
    if isinstance(content, list):
        return "".join(_part(part, f"{where}[{i}]", parts) for i, part in enumerate(content))
    return check_text(content, where)


def _part(part: Any, where: str, parts: tuple[str, ...]) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in parts:
        shown = kind[:60] if isinstance(kind, str) else "something else"
        raise invalid(
            f"{where} is {shown}, and only parts of type {' or '.join(parts)} are supported here",
            where,
            "unsupported_content",
        )
    _check_fields(part, PART_FIELDS, where)
    return check_text(part.get("text"), f"{where}.text")


def _check_fields(given: dict[str, Any], known: frozenset[str], where: str) -> None:
    """Nothing is said beside what is known; null says nothing."""
    for name, value in given.items():
        if name not in known and value is not None:
            name = f"{where}.{name[:60]}"
            raise invalid(f"{name} is not supported here; leave it out", name, "unknown_parameter")


# ---------------------------------------------------------------- calls


def _calls(given: Any, role: str, where: str) -> tuple[FunctionCall, ...]:
    if given is None or given == []:
        return ()
    if role != "assistant":
        raise invalid(f"{where} belongs to messages of role assistant, not {role}", where)
    if not isinstance(given, list):
        raise invalid(f"{where} must be a list of calls", where)
    return tuple(_call(item, f"{where}[{i}]") for i, item in enumerate(given))


def _call(item: Any, where: str) -> FunctionCall:
    if not isinstance(item, dict):
        raise invalid(f"{where} must be an object with id, type and function", where)
    if item.get("type", "function") != "function":
        raise invalid(
            f"{where}.type must be function; others are not supported here",
            f"{where}.type",
            "unsupported_parameter",
        )
    function = item.get("function")
    if not isinstance(function, dict):
        raise invalid(f"{where}.function must be an object with name and arguments", f"{where}.function")
    return FunctionCall(
        check_text(item.get("id"), f"{where}.id"),
        check_text(function.get("name"), f"{where}.function.name"),
        check_text(function.get("arguments"), f"{where}.function.arguments"),
    )


def _call_id(given: Any, role: str, where: str) -> str | None:
    if given is None:
        return None
    if role != "tool":
        raise invalid(f"{where} belongs to messages of role tool, not {role}", where)
    return check_text(given, where)
