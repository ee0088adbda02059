"""What a request to /v1/runs may say, checked before anything is done about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...modules.local import Sampling
from ...streaming.errors import SessionError
from ...streaming.messages import Message
from ...streaming.sessions import check_session_id
from ..abilities import Abilities
from .chat_messages import messages_of
from .chat_requests import SHORTEST_DEADLINE, check_unbound
from .desks import Asked, Desk, OnDisconnect, Visible
from .hints import Hint
from .parameters import Number, check_text, flag, invalid
from .refusals import Refusal
from .values import with_whole_numbers

__all__ = ["FIELDS", "RunRequest"]

LONGEST_SESSION = 100
"""Characters of a session's name; inside, its owner's mark stands before it."""

SETTINGS = tuple(setting.name for setting in dataclasses.fields(Sampling))
BINDING = ("max_tokens", "stop", "stop_token_ids", "logprobs", "json_schema", "regex")
"""Those of which the answer shows whether they were kept to."""

FIELDS: Mapping[str, str] = {
    "input": "What goes into the flow",
    "session": "The conversation that the run belongs to; its history is kept on the server",
    "history": "The messages before the input, instead of those that the session has",
    "timeout": "Deadline in seconds",
    "sampling": "Settings for the model that gives the answer",
    "stream": "Whether the run's events are streamed",
    "events": "Which events are streamed: those of the answer, or all",
    "background": "Whether the run goes on without a listener; its state comes at once",
    "on_disconnect": "What becomes of the run when its client leaves",
}


@dataclass(slots=True)
class RunRequest:
    """A request that has been checked."""

    asked: Asked
    stream: bool
    events: Visible

    @classmethod
    def parse(cls, body: Mapping[str, Any], takes: Hint, desk: Desk, able: Abilities) -> RunRequest:
        """Checks the body of a request against what the flow takes and can do, and the service lets be seen.

        Raises:
            Refusal: 400, 403 or 422, naming the field.
        """
        for name in body:
            if name not in FIELDS:
                message = f"unknown field {name[:60]!r}; there are {', '.join(FIELDS)}"
                raise invalid(message, name[:60], "unknown_parameter")
        if "input" not in body:
            raise invalid('input is missing; send {"input": ...}', "input")
        get = body.get
        stream, background = (flag(_or(get(name), False), name) for name in ("stream", "background"))
        if stream and background:
            message = "background: true answers at once; read the stream from /v1/runs/{id}/events"
            raise invalid(message, "background")
        timeout = get("timeout")
        if timeout is not None:
            timeout = Number(SHORTEST_DEADLINE, desk.default_timeout).check(timeout, "timeout")
        asked = Asked(
            takes.check(_checked(body["input"], "input"), "input"),
            timeout=timeout,
            session=_session(get("session")),
            history=_history(get("history")),
            sampling=_sampling(get("sampling"), able),
            background=background,
            on_disconnect=_on_disconnect(get("on_disconnect")),
        )
        return cls(asked, stream, visible(get("events"), desk.events))


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def visible(asked: Any, allowed: Visible) -> Visible:
    """Which events a client is sent, of those that the service allows.

    Raises:
        Refusal: 400 for anything else, 403 for more than is allowed.
    """
    if asked in (None, "output"):
        return allowed if asked is None else "output"
    if asked != "all":
        raise invalid('events must be "output" or "all"', "events")
    if allowed != "all":
        message = 'this server sends the events of the answer only; events: "all" must be allowed where it is started'
        raise Refusal(403, message, "events_not_allowed", "events")
    return "all"


def _session(name: Any) -> str | None:
    if name is None:
        return None
    try:
        if not isinstance(name, str):
            raise SessionError(f"a session's id is text, not {type(name).__name__}")
        check_session_id(name)
    except SessionError as error:
        raise invalid(str(error), "session") from None
    if len(name) > LONGEST_SESSION:
        raise invalid(f"session may have {LONGEST_SESSION} characters at most", "session")
    return name


def _history(given: Any) -> list[Message] | None:
    return None if given is None else messages_of(given, "history")


def _sampling(given: Any, able: Abilities) -> dict[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise invalid('sampling must be an object, such as {"temperature": 0.2}', "sampling")
    for name in given:
        if name not in SETTINGS:
            where = f"sampling.{name[:60]}"
            raise invalid(
                f"{where} is no setting; there are {', '.join(SETTINGS)}", where, "unknown_parameter"
            )
    if not able.settings:
        check_unbound(given, BINDING, able, "sampling.")
    numbers = with_whole_numbers(_checked(given, "sampling"))
    settings = {name: value for name, value in numbers.items() if value is not None}
    for name, kinds in COMPOSED.items():
        if name in settings and not isinstance(settings[name], kinds):
            where = f"sampling.{name}"
            raise invalid(f"{where} must be {' or '.join(KINDS[kind] for kind in kinds)}", where)
    if "logit_bias" in settings:
        settings["logit_bias"] = _logit_bias(settings["logit_bias"])
    try:
        Sampling(**settings)
    except (TypeError, ValueError) as error:
        raise invalid(str(error)[:300], "sampling") from None
    return settings


KINDS: Mapping[type, str] = {str: "text", list: "a list", dict: "an object"}
COMPOSED: Mapping[str, tuple[type, ...]] = {
    "stop": (str, list),
    "stop_token_ids": (list,),
    "logit_bias": (dict,),
    "json_schema": (dict,),
    "regex": (str,),
}
"""Settings that are no numbers, and what they are in JSON."""


def _logit_bias(given: Mapping[str, Any]) -> dict[int, Any]:
    for token in given:
        if not token.isascii() or not token.isdigit() or len(token) > 9:
            message = 'sampling.logit_bias must map token ids to numbers, such as {"42": -100}'
            raise invalid(message, "sampling.logit_bias")
    return {int(token): bias for token, bias in given.items()}


def _on_disconnect(given: Any) -> OnDisconnect | None:
    if given not in (None, "cancel", "continue"):
        raise invalid('on_disconnect must be "cancel" or "continue"', "on_disconnect")
    chosen: OnDisconnect | None = given
    return chosen


def _checked(value: Any, where: str) -> Any:
    """The value, all of whose texts can be encoded."""
    if isinstance(value, str):
        return check_text(value, where)
    if isinstance(value, dict):
        for key, item in value.items():
            _checked(key, where)
            _checked(item, where)
    elif isinstance(value, list):
        for item in value:
            _checked(item, where)
    return value
