"""The gate before the demo model lets in what it knows and nothing else."""

from __future__ import annotations

import time

import pytest

from millrace.modules.demo.retrieval import TopicIndex, topic_index
from millrace.modules.demo.topics import knowledge
from tests.modules.demo.questions import (
    OFF_TOPIC,
    OFF_TOPIC_LATER,
    OFF_TOPIC_ODD,
    OFF_TOPIC_UNSEEN,
    ON_TOPIC,
    ON_TOPIC_LATER,
    ON_TOPIC_ODD,
    ON_TOPIC_UNSEEN,
)


@pytest.fixture(scope="module")
def index() -> TopicIndex:
    return topic_index()


def accepted(index: TopicIndex, questions: list[str]) -> list[str]:
    return [question for question in questions if index.knows(question)]


def test_on_topic_questions_are_accepted(index: TopicIndex) -> None:
    questions = ON_TOPIC + ON_TOPIC_LATER
    assert len(questions) >= 60
    declined = set(questions) - set(accepted(index, questions))
    assert len(declined) <= 0.03 * len(questions), declined


def test_off_topic_questions_are_declined(index: TopicIndex) -> None:
    questions = OFF_TOPIC + OFF_TOPIC_LATER
    assert len(questions) >= 60
    passed = accepted(index, questions)
    assert len(passed) <= 0.03 * len(questions), passed


@pytest.mark.parametrize(
    ("on_topic", "off_topic"), [(ON_TOPIC_ODD, OFF_TOPIC_ODD), (ON_TOPIC_UNSEEN, OFF_TOPIC_UNSEEN)]
)
def test_odd_and_unseen_questions(index: TopicIndex, on_topic: list[str], off_topic: list[str]) -> None:
    """Declining what the model could have answered is the smaller fault."""
    assert len(accepted(index, on_topic)) >= 0.8 * len(on_topic)
    assert len(accepted(index, off_topic)) <= 0.03 * len(off_topic)


def test_every_trained_form_is_accepted(index: TopicIndex) -> None:
    known = knowledge()
    forms = [question for talk in known.small_talk for question in talk.asked]
    for topic in known.topics:
        forms += [topic.question, *topic.asked, *topic.terms, *(f"What is {term}?" for term in topic.terms)]
    assert [form for form in forms if not index.knows(form)] == []


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("What is a Warp?", "Warp"),
        ("whats a pipeline", "Pipeline"),
        ("What is a Pipelin?", "Pipeline"),
        ("tell me abuot the kv cahce", "KV cache"),
        ("how do I get deterministic output", "Temperature"),
        ("error 429", "Overloaded"),
    ],
)
def test_best_topic(index: TopicIndex, question: str, name: str) -> None:
    found = index.best(question)
    assert found is not None
    topic, score = found
    assert topic.name == name
    assert 0 < score <= 1


@pytest.mark.parametrize("question", ["", "?!", "what is the", "fjdksl", "time", "日本語", "🙂"])
def test_what_says_nothing_is_unknown(index: TopicIndex, question: str) -> None:
    assert index.best(question) is None
    assert not index.knows(question)


def test_a_very_long_question_is_declined_soon(index: TopicIndex) -> None:
    question = "What is a Warp? " * 100_000
    started = time.perf_counter()
    assert not index.knows(question)
    assert len(index.suggestions(question)) == 3
    assert time.perf_counter() - started < 5


def test_suggestions_are_the_nearest_topics_then_examples(index: TopicIndex) -> None:
    near = [topic.name for topic in index.suggestions("What is the temperature in Paris?")]
    assert near[0] == "Temperature"
    assert len(near) == 3
    assert [topic.name for topic in index.suggestions("fjdksl")] == ["Warp", "Session", "Cancelling"]
