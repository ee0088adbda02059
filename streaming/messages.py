"""Messages of a conversation, in the roles that chat templates and the OpenAI wire format share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

__all__ = ["Conversation", "Message", "Role"]

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `content` is text. `marks` says what happened to it, such as `{"status": "cancelled"}` on an answer that
    was stopped; marks are never shown to a model.
    """

    role: Role
    content: str
    marks: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def system(cls, content: str) -> Message:
        return cls("system", content)

    @classmethod
    def user(cls, content: str) -> Message:
        return cls("user", content)

    @classmethod
    def assistant(cls, content: str, **marks: Any) -> Message:
        return cls("assistant", content, marks)

    @classmethod
    def tool(cls, content: str) -> Message:
        return cls("tool", content)

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(f"a message's role is one of {', '.join(get_args(Role))}, not {self.role!r}")
        if not isinstance(self.content, str):
            raise TypeError(f"a message's content is text, not {type(self.content).__name__}")

    def as_dict(self) -> dict[str, str]:
        """`{"role": ..., "content": ...}`, as chat templates and the OpenAI wire format take it."""
        return {"role": self.role, "content": self.content}


class Conversation(tuple[Message, ...]):
    """A history that may lose its oldest turns to fit a model's context; a chat's, never a request's."""

    __slots__ = ()
