"""Messages of a conversation, in the roles that chat templates and the OpenAI wire format share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

__all__ = ["Conversation", "FunctionCall", "Message", "Role"]

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


class Called(Protocol):
    """What says that a function was called, such as the event ToolCall."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def arguments(self) -> str: ...


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A tool call in an assistant's message; `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str

    def as_dict(self) -> dict[str, Any]:
        """As the OpenAI wire format has it."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `content` is text. `marks` says what happened to it, such as `{"status": "cancelled"}` on an answer that
    was stopped; marks are never shown to a model. `tool_calls` are what an assistant's message asks for (events of
    the kind ToolCall are taken too), `tool_call_id` which of these a tool's message answers.
    """

    role: Role
    content: str
    marks: Mapping[str, Any] = field(default_factory=dict)
    tool_calls: tuple[FunctionCall, ...] = ()
    tool_call_id: str | None = None

    @classmethod
    def system(cls, content: str) -> Message:
        return cls("system", content)

    @classmethod
    def user(cls, content: str) -> Message:
        return cls("user", content)

    @classmethod
    def assistant(cls, content: str = "", *, tool_calls: Iterable[Called] = (), **marks: Any) -> Message:
        return cls("assistant", content, marks, tuple(tool_calls))  # type: ignore[arg-type]

    @classmethod
    def tool(cls, content: str, *, tool_call_id: str | None = None) -> Message:
        return cls("tool", content, tool_call_id=tool_call_id)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"a message's role is one of {', '.join(ROLES)}, not {self.role!r}")
        if not isinstance(self.content, str):
            raise TypeError(f"a message's content is text, not {type(self.content).__name__}")
        if self.tool_calls:
            if self.role != "assistant":
                raise ValueError(f"tool_calls are of assistant messages, not of {self.role} messages")
            object.__setattr__(self, "tool_calls", tuple(map(_function_call, self.tool_calls)))
        if self.tool_call_id is not None:
            if self.role != "tool":
                raise ValueError(f"tool_call_id is of tool messages, not of {self.role} messages")
            if not isinstance(self.tool_call_id, str):
                raise TypeError(f"tool_call_id is text, not {type(self.tool_call_id).__name__}")

    def as_dict(self) -> dict[str, Any]:
        """`{"role": ..., "content": ...}`, with `tool_calls` or `tool_call_id` where there are any.

        That is the OpenAI wire format: the content of a message that is nothing but calls is None.
        """
        told: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            told["content"] = self.content or None
            told["tool_calls"] = [call.as_dict() for call in self.tool_calls]
        if self.tool_call_id is not None:
            told["tool_call_id"] = self.tool_call_id
        return told

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Message:
        """The message that `as_dict` has told; it comes without marks.

        Raises:
            KeyError: something is missing.
            TypeError: something is of the wrong kind.
            ValueError: there is no such role.
        """
        calls = [
            FunctionCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in told.get("tool_calls") or ()
        ]
        content = told["content"] if not calls else told.get("content") or ""
        return cls(told["role"], content, {}, tuple(calls), told.get("tool_call_id"))


class Conversation(tuple[Message, ...]):
    """A history that may lose its oldest turns to fit a model's context; a chat's, never a request's."""

    __slots__ = ()


def _function_call(given: Any) -> FunctionCall:
    if isinstance(given, FunctionCall):
        call = given
    else:
        parts = (getattr(given, name, None) for name in ("id", "name", "arguments"))
        call = FunctionCall(*parts)  # type: ignore[arg-type]
    if not all(isinstance(part, str) for part in (call.id, call.name, call.arguments)):
        raise TypeError(
            f"tool_calls=[{given!r}]: give FunctionCall(id, name, arguments), all of them text, or ToolCall events"
        )
    return call
