"""What goes over the pipe, as JSON and back: settings, requests, deltas, errors."""

from __future__ import annotations

import builtins
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from typing import Any

from ....streaming import errors
from ....streaming.errors import ModelError
from ....streaming.events import ToolCall, ToolCallDelta
from ....streaming.limits import Limits
from ....streaming.messages import Message
from ....streaming.usage import TokenUsage
from ..memory import KV
from ..requests import Delta, Request, TokenLogprobs
from ..sampling import Sampling
from ..sources import EngineSettings, Source

__all__ = [
    "delta_from",
    "delta_to",
    "error_from",
    "error_to",
    "request_from",
    "request_to",
    "settings_from",
    "settings_to",
    "travels",
]

Json = dict[str, Any]


def travels(source: Source) -> bool:
    """Whether an engine in another process can find the source: a path, a name, or a function of a module."""
    return not callable(source) or _found(source)


def settings_to(settings: EngineSettings) -> Json:
    """Raises ModelError where something cannot be found again in another process."""
    source, quantization = settings.source, settings.quantization
    if callable(source) and not travels(source):
        raise ModelError(
            f"{source!r} cannot be found by another process; give a directory, or a function of a module, or "
            "process=False"
        )
    if quantization is not None and not isinstance(quantization, dict):
        quantization = quantization.to_dict()
    return {
        "source": {"function": [source.__module__, source.__qualname__]}
        if callable(source)
        else os.fspath(source),
        "device": settings.device,
        "dtype": settings.dtype,
        "quantization": quantization,
        "kv": asdict(settings.kv),
        "limits": asdict(settings.limits),
        "chat_template": settings.chat_template,
        "adapter": settings.adapter,
    }


def settings_from(frame: Json) -> EngineSettings:
    source = frame["source"]
    if isinstance(source, dict):
        source = _find(*source["function"])
    return EngineSettings(
        source,
        frame["device"],
        frame["dtype"],
        frame["quantization"],
        KV(**frame["kv"]),
        Limits(**frame["limits"]),
        frame["chat_template"],
        frame["adapter"],
    )


def _found(function: Callable[..., Any]) -> bool:
    try:
        return (
            function.__module__ != "__main__"
            and _find(function.__module__, function.__qualname__) is function
        )
    except (AttributeError, ImportError, KeyError):
        return False


def _find(module: str, name: str) -> Any:
    found: Any = sys.modules[module] if module in sys.modules else import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


# ---------------------------------------------------------------- requests


def request_to(request: Request) -> Json:
    """Raises ModelError where something in it is no JSON."""
    messages = request.messages
    sampling = asdict(request.sampling)
    sampling["logit_bias"] = [[token, bias] for token, bias in request.sampling.logit_bias.items()]
    try:
        asked = json.loads(
            json.dumps(
                {"sampling": sampling, "tools": list(request.tools), "tool_choice": request.tool_choice}
            )
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(
            f"a request to an engine in another process is JSON, its tools too: {error}"
        ) from error
    return {
        "messages": None if messages is None else [message.as_dict() for message in messages],
        "prompt": request.prompt,
        "token_ids": None if request.token_ids is None else [int(token) for token in request.token_ids],
        **asked,
        "deadline": request.deadline,
        "salt": request.salt,
        "session": request.session,
        "drop_oldest": request.drop_oldest,
        "chat_template": request.chat_template,
    }


def request_from(frame: Json) -> Request:
    fields = dict(frame)
    sampling = dict(fields["sampling"])
    sampling["logit_bias"] = dict(sampling["logit_bias"])
    if fields["messages"] is not None:
        fields["messages"] = [Message.from_dict(message) for message in fields["messages"]]
    return Request(**{**fields, "sampling": Sampling(**sampling)})


# ---------------------------------------------------------------- deltas


def delta_to(delta: Delta) -> Json:
    """Only what is there."""
    frame: Json = {}
    if delta.text:
        frame["text"] = delta.text
    if delta.token_ids:
        frame["token_ids"] = [int(token) for token in delta.token_ids]
    if delta.finish_reason is not None:
        frame["finish_reason"] = delta.finish_reason
    if delta.usage is not None:
        frame["usage"] = [delta.usage.prompt_tokens, delta.usage.completion_tokens]
    if delta.error is not None:
        frame["error"] = error_to(delta.error)
    if delta.logprobs:
        frame["logprobs"] = [_report_to(one) for one in delta.logprobs]
    if delta.reasoning:
        frame["reasoning"] = delta.reasoning
    if delta.tool_calls:
        frame["tool_calls"] = [{"kind": call.kind, **call.payload()} for call in delta.tool_calls]
    return frame


def delta_from(frame: Json) -> Delta:
    usage, error = frame.get("usage"), frame.get("error")
    return Delta(
        text=frame.get("text", ""),
        token_ids=tuple(frame.get("token_ids", ())),
        finish_reason=frame.get("finish_reason"),
        usage=None if usage is None else TokenUsage(*usage),
        error=None if error is None else error_from(error),
        logprobs=tuple(map(_report_from, frame.get("logprobs", ()))),
        reasoning=frame.get("reasoning", ""),
        tool_calls=tuple(_tool_call(call) for call in frame.get("tool_calls", ())),
    )


def _report_to(report: TokenLogprobs) -> list[Any]:
    data = None if report.data is None else report.data.hex()
    return [report.token_id, report.logprob, report.text, data, [_report_to(rival) for rival in report.top]]


def _report_from(frame: list[Any]) -> TokenLogprobs:
    token, logprob, text, data, top = frame
    known = None if data is None else bytes.fromhex(data)
    return TokenLogprobs(token, logprob, tuple(map(_report_from, top)), text, known)


def _tool_call(frame: Json) -> ToolCall | ToolCallDelta:
    fields = {name: value for name, value in frame.items() if name != "kind"}
    return ToolCall(**fields) if frame["kind"] == ToolCall.kind else ToolCallDelta(**fields)


# ---------------------------------------------------------------- errors


TOLD = ("retry_after", "waited", "setting", "public")
"""What our errors know beside their texts."""


def error_to(error: BaseException) -> Json:
    return {
        "type": type(error).__name__,
        "message": str(error),
        "extra": {name: getattr(error, name) for name in (*TOLD, "package", "extra") if hasattr(error, name)},
        "cause": repr(error.__cause__) if error.__cause__ is not None else None,
    }


def error_from(frame: Json) -> BaseException:
    """The same error, where its class is ours or Python's own; otherwise a ModelError that says what it was."""
    name, message, extra = frame["type"], frame["message"], frame["extra"]
    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            found = kind(extra["package"], extra["extra"]) if "package" in extra else kind(message)
        except TypeError:
            found = ModelError(f"{name}: {message}")
        for name in TOLD:
            if name in extra:
                setattr(found, name, extra[name])
    else:
        found = ModelError(f"{name}: {message}")
    if frame["cause"] is not None:
        found.add_note(f"caused in the engine's process by {frame['cause']}")
    return found
