"""The errors of millrace, in one tree.

MillraceError
├── FlowBuildError           a flow was written wrongly; raised while it is built
├── FlowCallError            a flow was called from a place where it cannot run
├── SessionError             a session id that is no id
│   └── SessionBusy          another run holds the session's history
├── QueueError               a queue of events could not do what was asked
│   ├── QueueFull            a detached run said more than its queue may hold
│   ├── EventsExpired        the events asked for are no longer kept
│   ├── RunUnknown           no such run in this queue
│   └── WriterLost           the process that wrote the run has died
├── RunCancelled             the run was cancelled; `.reason` says why
├── RunTimeout               the run passed its deadline (also a TimeoutError)
├── AdmissionError           refused before any work was done
│   ├── Overloaded           too many at once; `.retry_after` in seconds
│   └── ContextLengthExceeded  prompt and max_tokens do not fit the context or the KV pool
├── ModelError               a local model failed to load or to produce
│   └── RequestRefused       it cannot do what a request asks for; `.setting` says what (also a ValueError)
├── RemoteError              a remote model or flow failed
└── MissingExtra             an optional package is not installed (also an ImportError)

What a user's own step raises passes through as it is, with a note that says where it happened.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Self

__all__ = [
    "AdmissionError",
    "ContextLengthExceeded",
    "EventsExpired",
    "FlowBuildError",
    "FlowCallError",
    "MillraceError",
    "MissingExtra",
    "ModelError",
    "Overloaded",
    "QueueError",
    "QueueFull",
    "RemoteError",
    "RequestRefused",
    "RunCancelled",
    "RunTimeout",
    "RunUnknown",
    "SessionBusy",
    "SessionError",
    "WriterLost",
    "require",
]


class MillraceError(Exception):
    """The root of everything that millrace itself raises.

    `public`: a service's clients may read the text, which is about what they have asked for and about nothing else.
    """

    public = False

    def for_clients(self) -> Self:
        """The error, made public; said where it is raised, by whoever knows the whole text."""
        self.public = True
        return self


class FlowBuildError(MillraceError):
    """A flow was written wrongly. The message names the flow, the step and the cure."""


class FlowCallError(MillraceError):
    """A flow was called from a place where it cannot run, such as synchronously inside a coroutine step."""


class SessionError(MillraceError):
    """A session id that is no id: `[A-Za-z0-9._-]{1,128}`, without a leading dot."""


class SessionBusy(SessionError):
    """Another run holds the history of this session."""


class QueueError(MillraceError):
    """A queue of events could not do what was asked."""


class QueueFull(QueueError):
    """A detached run said more than its queue may hold."""


class EventsExpired(QueueError):
    """The events asked for were produced, but are no longer kept."""


class RunUnknown(QueueError):
    """There is no such run in this queue."""


class WriterLost(QueueError):
    """The process that wrote this run died before the run's end."""


class RunCancelled(MillraceError):
    """The run was cancelled. `reason` is what was given to `run.cancel()`."""

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(f"the run was cancelled: {reason}")
        self.reason = reason


class RunTimeout(MillraceError, TimeoutError):
    """The run passed its deadline and was stopped."""


class AdmissionError(MillraceError):
    """Refused before any work was done."""


class Overloaded(AdmissionError):
    """Too many requests at once. `retry_after` is the time in seconds after which to try again, `waited` for how
    many seconds the request had stood in line: 0 where it was refused at once.
    """

    def __init__(self, message: str, retry_after: float = 1.0, waited: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.waited = waited


class ContextLengthExceeded(AdmissionError):
    """Prompt and `max_tokens` together do not fit the model's context or the KV pool."""


class ModelError(MillraceError):
    """A local model failed to load or to produce."""


class RequestRefused(ModelError, ValueError):
    """A model, or a flow that another service runs, cannot do what a request asks for: hold to that schema, call that
    tool, take those messages, end there.

    `setting` is what of the request cannot be: one of a Sampling's, `tools`, `tool_choice`, `prompt`, `token_ids` or
    `messages`. `by_run`: whoever started the run has asked for it, and not a flow for itself.
    """

    def __init__(self, message: str, setting: str = "", by_run: bool = False) -> None:
        super().__init__(message)
        self.setting = setting
        self.by_run = by_run


class RemoteError(MillraceError):
    """A remote model or flow failed, or a run that is read from a queue.

    `status` is the HTTP status, where there was one; `kind` the name of the error's type there, where it is known.
    """

    def __init__(self, message: str, status: int | None = None, kind: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class MissingExtra(MillraceError, ImportError):
    """An optional package is not installed. The message is the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'millrace[{extra}]'")
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.package, self.extra)


def require(package: str, extra: str) -> ModuleType:
    """Imports an optional package.

    Raises:
        MissingExtra: it is not installed. A package that is there but fails to import raises its own error.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise MissingExtra(package, extra) from error
