"""Responses as objects: what OpenAI's clients call a Response, of a run that goes on or is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...streaming.events import RunFinished
from ...streaming.usage import TokenUsage
from .refusals import Refusal

__all__ = ["PREFIX", "ResponseObject", "status_of"]

PREFIX = "resp_"
"""Before a run's id, it is the response's."""

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Reasons of a run that is done for which OpenAI calls its response incomplete, and OpenAI's words for them."""

GOING_ON = {"queued": "queued", "running": "in_progress", "waiting": "in_progress"}

DEFAULTS: Mapping[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": None,
    "store": False,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
}
"""What a response says of its request where that said nothing."""


def status_of(status: str, reason: str | None) -> str:
    """OpenAI's word for how a run is."""
    if status == "done":
        return "incomplete" if reason in INCOMPLETE else "completed"
    return "cancelled" if status == "cancelled" else GOING_ON.get(status, "failed")


@dataclass(slots=True)
class ResponseObject:
    """What stays the same about a response. `created` in seconds since the epoch; `echo` is what its request said."""

    run_id: str
    model: str
    created: float
    echo: Mapping[str, Any] = field(default_factory=dict)

    def begun(self, status: str = "in_progress") -> dict[str, Any]:
        """As JSON has it, before there is an answer."""
        return {
            "id": f"{PREFIX}{self.run_id}",
            "object": "response",
            "created_at": int(self.created),
            "status": status,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "model": self.model,
            "output": [],
            "usage": None,
            **DEFAULTS,
            **self.echo,
        }

    def over(self, finished: RunFinished, refusal: Refusal | None) -> dict[str, Any]:
        """The same at the end, its output still missing; `refusal` is what the client may know of why the run has not
        ended as done.
        """
        told = self.begun(status_of(finished.status, finished.reason))
        told["usage"] = _usage(finished.usage)
        if refusal is not None:
            told["error"] = _error(refusal)
        elif told["status"] == "incomplete":
            told["incomplete_details"] = {"reason": INCOMPLETE[finished.reason or ""]}
        else:
            told["completed_at"] = int(finished.time)
        return told


def _error(refusal: Refusal) -> dict[str, Any]:
    """OpenAI's responses know few codes; `type` has the one of all our errors."""
    code = "server_error"
    if refusal.status < 500:
        code = "rate_limit_exceeded" if refusal.status == 429 else "invalid_prompt"
    return {"code": code, "message": refusal.message, "type": refusal.code, "param": refusal.param}


def _usage(usage: TokenUsage) -> dict[str, Any]:
    """Neither what was cached nor what was reasoning is told apart, and both must be said."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }
