"""All kinds of steps that can be at work when a listener leaves."""

from __future__ import annotations

from collections.abc import Callable

from tests.leaving.models import Decoding, Prefill, Queued
from tests.leaving.served import Served
from tests.leaving.subjects import (
    AsyncGenerator,
    Awaiting,
    BetweenAttempts,
    InLine,
    Intermediate,
    Joined,
    Nested,
    PlainFunction,
    Subject,
    SyncGenerator,
    WithPolicies,
)

__all__ = ["KINDS"]

KINDS: dict[str, Callable[[], Subject]] = {
    "async generator": AsyncGenerator,
    "with policies": WithPolicies,
    "in line for a slot": InLine,
    "between two attempts": BetweenAttempts,
    "intermediate": Intermediate,
    "awaiting": Awaiting,
    "sync generator": SyncGenerator,
    "nested flow": Nested,
    "joined flow": Joined,
    "plain function": PlainFunction,
    "model queued": Queued,
    "model in prefill": Prefill,
    "model decoding": Decoding,
    "served elsewhere": Served,
}
