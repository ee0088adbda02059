"""/v1/models, described."""

from __future__ import annotations

from typing import Any

from ..wire import model_card
from .answers import COUNT, TEXT, json_answer
from .chats import CREATED, NO_MODEL
from .components import Components
from .refusals import refusals

__all__ = ["describe_models"]


def describe_models(components: Components, model: str) -> dict[str, Any]:
    """The paths at which clients find the name of the flow."""
    properties = {"id": TEXT, "object": {"enum": ["model"]}, "created": COUNT, "owned_by": TEXT}
    told = {"type": "object", "required": list(properties), "properties": properties}
    card = components.name("Model", told)
    cards = {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"enum": ["list"]}, "data": {"type": "array", "items": card}},
    }
    example = model_card(model, CREATED)
    name = {"name": "name", "in": "path", "required": True, "schema": TEXT, "example": model}
    return {
        "/v1/models": {
            "get": {
                "operationId": "list_models",
                "tags": ["OpenAI"],
                "summary": "The flow, as the one model of this server",
                "responses": {
                    "200": json_answer("All there are", cards, {"object": "list", "data": [example]})
                },
            }
        },
        "/v1/models/{name}": {
            "get": {
                "operationId": "retrieve_model",
                "tags": ["OpenAI"],
                "summary": "The flow, by its name",
                "parameters": [name],
                "responses": {
                    "200": json_answer("It is there", card, example),
                    **refusals(components, NO_MODEL),
                },
            }
        },
    }
