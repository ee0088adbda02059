"""What the demo model was trained on, as data: the topics, the small talk, and how it declines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from . import weights_path

__all__ = ["Knowledge", "SmallTalk", "Topic", "knowledge"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One word of millrace.

    `name` is its heading in docs/glossary.md and `answer` its definition there. `question` is the plain way
    to ask for it, `terms` are noun phrases that name it, `asked` are whole questions that lead to it.
    """

    name: str
    question: str
    terms: tuple[str, ...]
    asked: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class SmallTalk:
    """Greetings and the like: every one of `asked` has the same answer."""

    asked: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Knowledge:
    """All that the demo knows. `jargon` are the words that hardly occur outside of this field."""

    topics: tuple[Topic, ...]
    small_talk: tuple[SmallTalk, ...]
    decline: str
    jargon: frozenset[str]

    def declining(self, suggestions: Sequence[Topic]) -> str:
        """The polite refusal, with the plain questions of the suggested topics."""
        return self.decline.format(questions=" ".join(topic.question for topic in suggestions))


@cache
def knowledge() -> Knowledge:
    """Reads topics.json, once."""
    content = json.loads((weights_path() / "topics.json").read_text(encoding="utf-8"))
    topics = (
        Topic(entry["name"], entry["question"], tuple(entry["terms"]), tuple(entry["asked"]), entry["answer"])
        for entry in content["topics"]
    )
    small_talk = (SmallTalk(tuple(entry["asked"]), entry["answer"]) for entry in content["small_talk"])
    return Knowledge(tuple(topics), tuple(small_talk), content["decline"], frozenset(content["jargon"]))
