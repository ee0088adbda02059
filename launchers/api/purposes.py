"""Purposes: what a flow can be used for, so that what cannot work is refused before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...flow.arguments import Given
from ...flow.checks import Walk
from ...flow.hints import describe
from ...flow.policies import bare
from ...flow.steps import Step
from ...modules.embedding_models import Embedding
from ...streaming.messages import Message
from ..file_inputs import intake_of
from ..inputs import gives_embeddings, takes_messages
from .hints import taken_by
from .refusals import Refusal

__all__ = ["Purpose", "accepts", "conversation", "embedding", "is_embedding", "runs"]


@dataclass(frozen=True, slots=True)
class Purpose:
    """One use of a flow; `fault` says why it cannot be used so, and what to do instead."""

    fault: str | None = None

    @property
    def fits(self) -> bool:
        return self.fault is None

    def check(self) -> None:
        """Raises: Refusal: 400, the flow is not for this."""
        if self.fault is not None:
            raise Refusal(400, self.fault, "unsupported_flow", "model")


def conversation(flow: Step[Any, Any], model: str) -> Purpose:
    """To be asked in words, or in messages, and to answer in text; `model` is what clients call the flow."""
    if gives_embeddings(flow):
        return Purpose(f"{model!r} gives embeddings, and answers nothing; use POST /v1/embeddings")
    if accepts(flow, list[Message] if takes_messages(flow) else str):
        return Purpose()
    taken = taken_by(flow).annotation
    said = "does not take text" if taken is Any else f"takes {describe(taken)}, neither text nor messages"
    return Purpose(f"{model!r} {said}; use POST /v1/runs, whose input is what the flow takes")


def runs(flow: Step[Any, Any], model: str) -> Purpose:
    """To be run on what it takes: anything but files. Over HTTP a Path would be any file of this machine's that the
    client can name.
    """
    if not intake_of(flow).files:
        return Purpose()
    return Purpose(
        f"{model!r} takes files, which only the web chat takes in; put a step before it that takes something else"
    )


def embedding(flow: Step[Any, Any], model: str) -> Purpose:
    """To turn texts into vectors."""
    if gives_embeddings(flow):
        return Purpose()
    return Purpose(
        f"{model!r} gives no embeddings: a flow that does has a LocalEmbedding or a RemoteEmbedding at its end; "
        "use POST /v1/chat/completions for text, POST /v1/runs for anything"
    )


def is_embedding(flow: Step[Any, Any]) -> bool:
    """Whether a flow is an embedding and nothing else: it takes many texts at once."""
    return isinstance(bare(flow), Embedding)


def accepts(flow: Step[Any, Any], hint: Any) -> bool:
    """Whether a flow may be called with a value of the type `hint`: no only where that is certain to fail."""
    return set(_problems(flow, hint)) <= set(_problems(flow, Any))


def _problems(flow: Step[Any, Any], hint: Any) -> list[str]:
    walk = Walk(whole=True)
    walk.through(flow, Given(hint, hint, None))
    return walk.problems
