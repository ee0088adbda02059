"""The bundled demo as a flow: `millrace chat`, `millrace run "What is a Warp?"`, `millrace.launchers.demo:flow`.

Its model has learned millrace's glossary by heart and answers anything else wrongly, so retrieval over the known
topics decides first whether the model is asked at all. What it says is the model's own.
"""

from __future__ import annotations

from ..flow.switch import Switch
from ..modules.models import LocalModel

__all__ = ["decline", "flow", "is_known"]


def is_known(question: str) -> bool:
    """Whether the demo model was trained to answer this question."""
    from ..modules.demo.retrieval import topic_index

    return topic_index().knows(question)


def decline(question: str) -> str:
    """Says what the demo is, and which questions it can answer that are near to this one."""
    from ..modules.demo.retrieval import topic_index

    index = topic_index()
    return index.known.declining(index.suggestions(question))


flow: Switch[str, str] = Switch({is_known: LocalModel.demo()}, default=decline, name="demo")
