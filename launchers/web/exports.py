"""A conversation to take away: as Markdown to read, or as JSON for programs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from urllib.parse import quote

from .conversations import Conversation

__all__ = ["FORMS", "as_json", "as_markdown", "disposition"]


def as_markdown(conversation: Conversation, answerer: str) -> str:
    """Questions and answers under headings; what was said on the way is left out."""
    parts = [f"# {conversation.title}"]
    for turn in conversation.turns:
        parts += ["## You", turn.question, f"## {answerer}"]
        if turn.text:
            parts.append(turn.text)
        if turn.failure is not None:
            parts.append(f"*{turn.failure.what}.*")
        elif turn.state == "stopped":
            parts.append("*stopped*")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def as_json(conversation: Conversation, answerer: str) -> str:
    """`{"title", "model", "created", "updated", "messages": [{"role", "content", ...}]}`, times in ISO 8601.

    An answer that is not whole has a `status`; `steps` is what was said on the way to it.
    """
    messages: list[dict[str, object]] = []
    for turn in conversation.turns:
        messages.append({"role": "user", "content": turn.question})
        answer: dict[str, object] = {"role": "assistant", "content": turn.text}
        if turn.parts:
            answer["steps"] = [{"title": part.title, "content": part.text} for part in turn.parts]
        if turn.state != "done":
            answer["status"] = turn.state
        if turn.failure is not None:
            answer["error"] = turn.failure.what
        messages.append(answer)
    whole = {
        "title": conversation.title,
        "model": answerer,
        "created": _time(conversation.created),
        "updated": _time(conversation.updated),
        "messages": messages,
    }
    return json.dumps(whole, ensure_ascii=False, indent=2) + "\n"


FORMS = {"md": (as_markdown, "text/markdown"), "json": (as_json, "application/json")}
"""By the ending of the file's name."""


def disposition(title: str, ending: str) -> bytes:
    """The header that names the file; what a file system might not take is left out."""
    name = re.sub(r"[^\w .,-]+", "", title).strip(" .")[:60] or "conversation"
    plain = name.encode("ascii", "ignore").decode().strip() or "conversation"
    return f"attachment; filename=\"{plain}.{ending}\"; filename*=UTF-8''{quote(name)}.{ending}".encode()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
