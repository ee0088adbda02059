"""The whole document: what all endpoints say of themselves, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ...abilities import Abilities
from ..desks import Desk
from ..hints import given_by, taken_by
from ..purposes import conversation, embedding
from .chats import describe_chats
from .components import Components
from .embeddings import describe_embeddings
from .models import describe_models
from .refusals import GUARDED, refusals
from .responses import describe_responses
from .runs import describe_runs
from .states import describe_states

__all__ = ["Guarding", "complete"]

TAGS = {
    "Runs": "The flow itself: its own input and result, its events, runs that outlive a connection",
    "OpenAI": "The flow as clients of OpenAI know a model",
    "Service": "How the service is",
}
METHODS = ("get", "post", "put", "patch", "delete")

SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key of this server"},
    "password": {
        "type": "http",
        "scheme": "basic",
        "description": "A key as the password, for browsers; not for /v1",
    },
}


class Guarding(NamedTuple):
    """Who may ask: those with a key; those who call this machine by its own name."""

    keys: bool
    hosts: bool


def complete(document: dict[str, Any], desk: Desk, guarding: Guarding) -> dict[str, Any]:
    """Adds the service's own endpoints to a document that has those which its user has added."""
    known = document.get("components", {})
    components = Components(known.get("schemas"))
    found = document.get("paths", {})
    paths = {**_described(desk, components), **found}
    for path, item in paths.items():
        for method, operation in item.items():
            if method in METHODS and operation.get("security") != []:
                _guard(path, operation, components, guarding)
    used = {tag for _, item in paths.items() for tag in _tags(item)}
    document |= {
        "paths": paths,
        "tags": [{"name": name, "description": text} for name, text in TAGS.items() if name in used],
        "components": {**known, "schemas": dict(components)},
    }
    if guarding.keys:
        document["components"]["securitySchemes"] = {**known.get("securitySchemes", {}), **SCHEMES}
    return document


def _described(desk: Desk, components: Components) -> Mapping[str, Any]:
    """The service's own paths. The flow's come last: its classes give way to ours, where they have one name."""
    model, longest, able = desk.model, desk.default_timeout, Abilities.of(desk.flow)
    takes, gives = taken_by(desk.flow), given_by(desk.flow)
    paths: dict[str, Any] = {}
    if conversation(desk.flow, model).fits:
        paths |= describe_chats(components, model, longest, able)
        paths |= describe_responses(components, model, longest, able)
    if embedding(desk.flow, model).fits:
        paths |= describe_embeddings(components, model, longest)
    return {
        **paths,
        **describe_models(components, model),
        **describe_states(components, model),
        **describe_runs(components, takes, gives, longest, desk.events, able),
    }


def _tags(item: Mapping[str, Any]) -> Iterable[str]:
    return [tag for method in METHODS if method in item for tag in item[method].get("tags", ())]


def _guard(path: str, operation: dict[str, Any], components: Components, guarding: Guarding) -> None:
    """What is refused before the endpoint is asked."""
    if guarding.keys:
        ways = ("key",) if path.startswith("/v1/") else ("key", "password")
        operation["security"] = [{way: []} for way in ways]
    first = [GUARDED[name] for name in Guarding._fields if getattr(guarding, name)]
    answers = {**operation.get("responses", {}), **refusals(components, *first)}
    operation["responses"] = dict(sorted(answers.items()))
