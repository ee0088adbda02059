"""The committed weights load with plain transformers, offline, and say what they were trained to say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from millrace.modules.demo import weights_path
from millrace.modules.demo.topics import knowledge


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(weights_path(), local_files_only=True, padding_side="left")


@pytest.fixture(scope="module")
def model() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield AutoModelForCausalLM.from_pretrained(weights_path(), dtype=torch.float32, local_files_only=True)
    torch.set_num_threads(threads)


def answers(model: Any, tokenizer: Any, conversations: list[list[dict[str, str]]]) -> list[str]:
    """Greedy answers to all conversations, in one batch."""
    batch = tokenizer.apply_chat_template(
        conversations, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        output = model.generate(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=80
        )
    return tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def asked(*contents: str) -> list[dict[str, str]]:
    """A conversation in which user and assistant take turns."""
    return [
        {"role": ("user", "assistant")[place % 2], "content": content}
        for place, content in enumerate(contents)
    ]


def test_every_plain_question_has_its_exact_answer(model: Any, tokenizer: Any) -> None:
    topics = knowledge().topics
    said = answers(model, tokenizer, [asked(topic.question) for topic in topics])
    assert said == [topic.answer for topic in topics]


def test_small_talk(model: Any, tokenizer: Any) -> None:
    talks = knowledge().small_talk
    said = answers(model, tokenizer, [asked(talk.asked[0]) for talk in talks])
    assert said == [talk.answer for talk in talks]


def test_a_system_message_changes_nothing(model: Any, tokenizer: Any) -> None:
    warp = next(topic for topic in knowledge().topics if topic.name == "Warp")
    system = {"role": "system", "content": "You are a helpful assistant."}
    assert answers(model, tokenizer, [[system, *asked(warp.question)]]) == [warp.answer]


def test_most_second_questions_have_their_exact_answer(model: Any, tokenizer: Any) -> None:
    topics = knowledge().topics
    before = [topics[place - 7] for place in range(len(topics))]
    conversations = [
        asked(earlier.question, earlier.answer, topic.question)
        for earlier, topic in zip(before, topics, strict=True)
    ]
    said = answers(model, tokenizer, conversations)
    exact = sum(text == topic.answer for text, topic in zip(said, topics, strict=True))
    assert exact >= 0.95 * len(topics)


def test_weights_are_small_and_half_precision() -> None:
    file = weights_path() / "model.safetensors"
    assert file.stat().st_size <= 1_600_000
    tensors = AutoModelForCausalLM.from_pretrained(weights_path(), dtype="auto", local_files_only=True)
    assert {parameter.dtype for parameter in tensors.parameters()} == {torch.float16}
    assert 600_000 <= sum(parameter.numel() for parameter in tensors.parameters()) <= 800_000
