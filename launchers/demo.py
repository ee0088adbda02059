"""The bundled demo as a flow: `millrace chat`, `millrace run "What is a Warp?"`, `millrace.launchers.demo:flow`.

Its model has learned millrace's glossary by heart and answers anything else wrongly, so retrieval over the known
topics decides first whether the model is asked at all. What it says is the model's own.
"""

from __future__ import annotations

from ..flow.switch import Switch
from ..modules.models import LocalModel

__all__ = ["decline", "demo_flow", "flow", "is_known", "model"]


def is_known(question: str) -> bool:
    """Whether the demo model was trained to answer this question."""
    from ..modules.demo.retrieval import topic_index

    return topic_index().knows(question)


def decline(question: str) -> str:
    """Says what the demo is, and which questions it can answer that are near to this one."""
    from ..modules.demo.retrieval import topic_index

    index = topic_index()
    return index.known.declining(index.suggestions(question))


def demo_flow(model: LocalModel) -> Switch[str, str]:
    """The demo around a model: it is asked what is known, everything else is declined."""
    return Switch({is_known: model}, default=decline, name="demo")


model = LocalModel.demo()
flow = demo_flow(model)
