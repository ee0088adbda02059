"""The demo flow: the bundled model says what it learned, and everything else is declined without it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace import LocalModel, Message, Sampling
from millrace.launchers import demo
from millrace.modules.demo import weights_path
from millrace.modules.demo.topics import Topic, knowledge
from millrace.streaming import TextDelta

KNOWN = {topic.name: topic for topic in knowledge().topics}
DECLINE = knowledge().decline.partition("{")[0]
OFF_TOPIC = [
    "What is the capital of France?",
    "Write a poem about the sea.",
    "fjdksl",
    "What is 12 times 7?",
    "",
]


@pytest.fixture(scope="module")
def model() -> Iterator[LocalModel]:
    """The demo's own model, given back at the end."""
    yield demo.model
    asyncio.run(demo.model.release())


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as it was before training: the same files with random weights."""
    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    directory = tmp_path_factory.mktemp("weights")
    for file in weights_path().glob("*.json"):
        shutil.copy(file, directory)
    shutil.copy(weights_path() / "chat_template.jinja", directory)
    torch.manual_seed(3)
    LlamaForCausalLM(AutoConfig.from_pretrained(weights_path())).half().save_pretrained(directory)
    return directory


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "bm25s", "numpy", "gradio", "starlette"}
    code = f"import sys, millrace.launchers.demo; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("question", OFF_TOPIC)
def test_off_topic_questions_are_declined_without_the_model(model: LocalModel, question: str) -> None:
    before = model.engine.status()
    text = "".join(demo.flow.stream(question).text())
    assert text.startswith(DECLINE)
    assert sum(topic.question in text for topic in knowledge().topics) == 3
    after = model.engine.status()
    assert (after.steps, after.tokens_read, after.tokens_produced) == (
        before.steps,
        before.tokens_read,
        before.tokens_produced,
    )


def test_a_known_question_gets_the_trained_answer_streamed(model: LocalModel) -> None:
    warp = KNOWN["Warp"]
    with demo.flow.stream(warp.question) as stream:
        pieces = [event.text for event in stream if isinstance(event, TextDelta)]
    assert "".join(pieces) == warp.answer
    assert len(pieces) > 10
    assert model.engine.status().tokens_produced >= len(pieces)


@pytest.mark.parametrize("topic", KNOWN.values(), ids=lambda topic: topic.name)
def test_every_topic(model: LocalModel, topic: Topic) -> None:
    assert demo.flow(topic.question) == topic.answer


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("whats a pipeline", "Pipeline"),
        ("what is a session", "Session"),
        ("How do I stop a run?", "Cancelling"),
        ("how do I install millrace", "Installation"),
        ("can I use vllm", "vLLM"),
        ("Does it need a GPU?", "GPU"),
    ],
)
def test_other_wordings(model: LocalModel, question: str, name: str) -> None:
    assert demo.flow(question) == KNOWN[name].answer


def test_a_question_after_others(model: LocalModel) -> None:
    history = [
        Message.user("What is a Session?"),
        Message.assistant(KNOWN["Session"].answer),
        Message.user("What is the capital of France?"),
        Message.assistant(demo.decline("What is the capital of France?")),
    ]
    assert demo.flow("What is a Warp?", history=history) == KNOWN["Warp"].answer


def test_many_at_once(model: LocalModel) -> None:
    topics = list(KNOWN.values())[:8]

    async def ask_all() -> list[str]:
        return await asyncio.gather(*(demo.flow.acall(topic.question) for topic in topics))

    assert asyncio.run(ask_all()) == [topic.answer for topic in topics]


def test_the_words_are_the_models(model: LocalModel, other_weights: Path) -> None:
    swapped = LocalModel(other_weights, sampling=Sampling(temperature=0, max_tokens=40))
    try:
        flow = demo.demo_flow(swapped)
        assert flow("What is a Warp?") != demo.flow("What is a Warp?")
        assert swapped.engine.status().tokens_produced > 0
        for question in OFF_TOPIC:
            assert flow(question) == demo.flow(question)
    finally:
        asyncio.run(swapped.release())
