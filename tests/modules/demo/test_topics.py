"""The topics that the demo model learned are the glossary, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from millrace.modules.demo.topics import knowledge

GLOSSARY = Path(__file__).parents[3] / "docs" / "glossary.md"


def definitions() -> dict[str, str]:
    """The first paragraph of every section of the glossary, by its heading."""
    sections = re.split(r"^## +", GLOSSARY.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        heading, _, body = section.partition("\n")
        found[heading.strip()] = " ".join(body.strip().split("\n\n")[0].split())
    return found


def test_topics_are_the_glossary_both_ways() -> None:
    assert {topic.name: topic.answer for topic in knowledge().topics} == definitions()


def test_topics_stand_in_the_order_of_the_glossary() -> None:
    assert [topic.name for topic in knowledge().topics] == list(definitions())


@pytest.mark.parametrize("topic", knowledge().topics, ids=lambda topic: topic.name)
def test_answers_are_one_short_sentence(topic) -> None:
    assert 12 <= len(topic.answer.split()) <= 30
    assert topic.answer.endswith(".")
    assert not re.search(r"[.!?] [A-Z]", topic.answer)


def test_no_wording_asks_for_two_things() -> None:
    answers: dict[str, str] = {}
    known = knowledge()
    wordings = [
        (wording, topic.answer)
        for topic in known.topics
        for wording in (topic.question, *topic.terms, *topic.asked)
    ]
    wordings += [(wording, talk.answer) for talk in known.small_talk for wording in talk.asked]
    for wording, answer in wordings:
        key = wording.lower().rstrip("?!.")
        assert answers.setdefault(key, answer) == answer, wording


def test_a_warp_is_known() -> None:
    assert "What is a Warp?" in [topic.question for topic in knowledge().topics]


def test_declining_names_the_suggested_questions() -> None:
    known = knowledge()
    text = known.declining(known.topics[:2])
    assert text.endswith(f"{known.topics[0].question} {known.topics[1].question}")
    assert "tiny demo model" in text
