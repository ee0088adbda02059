"""The engine core, step by step: ends, stops, and what one request's failure costs the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from millrace.modules.local.core import EngineCore
from millrace.modules.local.requests import Delta
from millrace.modules.local.sampling import Sampling
from millrace.modules.local.sequences import Sequence
from millrace.streaming.errors import ModelError

from .families import core_of, generated, model_of

PROMPTS = [[5, 9, 7, 11], [30, 31, 32], [100] * 9, [8, 8]]
NEW = 12


@pytest.fixture
def model() -> Any:
    torch.set_num_threads(1)
    return model_of("llama", initializer_range=0.3)


def sequence_of(prompt: list[int], new: int = NEW, **settings: Any) -> Sequence:
    return Sequence(list(prompt), len(prompt), new, Sampling(**{"temperature": 0.0, **settings}))


def run(core: EngineCore, *sequences: Sequence) -> dict[Sequence, list[Delta]]:
    """Adds the sequences and steps until the core is idle; their deltas."""
    for sequence in sequences:
        core.add(sequence)
    said: dict[Sequence, list[Delta]] = {sequence: [] for sequence in sequences}
    while not core.idle:
        for sequence, delta in core.step():
            said.setdefault(sequence, []).append(delta)
    assert core.blocks.used == 0
    for deltas in said.values():
        assert [delta.finish_reason is None for delta in deltas] == [True] * (len(deltas) - 1) + [False]
    return said


def tokens(deltas: list[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def before_forward(model: Any, act: Callable[[torch.Tensor], None]) -> None:
    """Calls `act(token ids)` before each forward of the model."""
    model.register_forward_pre_hook(lambda _, args, options: act(options["input_ids"]), with_kwargs=True)


class TestEnds:
    def test_at_max_tokens(self, model: Any) -> None:
        core, sequence = core_of(model), sequence_of(PROMPTS[0], 3)
        last = run(core, sequence)[sequence][-1]
        assert last.finish_reason == "length"
        assert last.usage is not None
        assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (4, 3)

    def test_at_an_end_token_which_is_counted_and_says_nothing(self, model: Any) -> None:
        (answer,) = generated(model, PROMPTS[:1], NEW)
        core, sequence = core_of(model, end_tokens=frozenset({answer[4]})), sequence_of(PROMPTS[0])
        deltas = run(core, sequence)[sequence]
        first = answer.index(answer[4])
        assert tokens(deltas) == answer[: first + 1]
        assert text(deltas) == "".join(f" {token}" for token in answer[:first])
        assert deltas[-1].finish_reason == "stop"

    def test_at_a_stop_token_of_the_request(self, model: Any) -> None:
        (answer,) = generated(model, PROMPTS[:1], NEW)
        core, sequence = core_of(model), sequence_of(PROMPTS[0], stop_token_ids=[answer[3]])
        deltas = run(core, sequence)[sequence]
        assert tokens(deltas) == answer[: answer.index(answer[3]) + 1]
        assert deltas[-1].finish_reason == "stop"

    def test_at_a_stop_string_over_several_tokens(self, model: Any) -> None:
        (answer,) = generated(model, PROMPTS[:1], NEW)
        assert len(set(answer)) == NEW
        stop = f"{str(answer[3])[-1]} {answer[4]} {str(answer[5])[0]}"
        core, sequence = core_of(model), sequence_of(PROMPTS[0], stop=stop)
        deltas = run(core, sequence)[sequence]
        whole = "".join(f" {token}" for token in answer)
        assert text(deltas) == whole[: whole.index(stop)]
        assert tokens(deltas) == answer[:6]
        assert deltas[-1].finish_reason == "stop"

    def test_held_text_goes_out_at_a_natural_end(self, model: Any) -> None:
        (answer,) = generated(model, PROMPTS[:1], NEW)
        whole = "".join(f" {token}" for token in answer)
        core, sequence = core_of(model), sequence_of(PROMPTS[0], stop=whole[-6:] + "!")
        assert text(run(core, sequence)[sequence]) == whole


class TestAborts:
    @pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
    def test_wherever_it_stands(self, model: Any, steps: int) -> None:
        """Queued, in the first or a later chunk of the prompt, decoding: the next step gives all blocks back."""
        core, sequence = core_of(model, tokens_per_step=4), sequence_of(PROMPTS[2])
        core.add(sequence)
        for _ in range(steps):
            core.step()
        core.abort(sequence)
        core.abort(sequence)
        outputs = core.step()
        assert [delta.finish_reason for _, delta in outputs] == ["cancelled"]
        assert outputs[0][1].usage is not None
        assert outputs[0][1].usage.completion_tokens == max(0, steps - 2)
        assert core.idle
        assert core.blocks.used == 0

    def test_while_a_forward_runs_its_token_is_dropped(self, model: Any) -> None:
        core, sequence, other = core_of(model), sequence_of(PROMPTS[0]), sequence_of(PROMPTS[1], 3)
        before_forward(model, lambda ids: core.abort(sequence) if core.steps == 3 else None)
        said = run(core, sequence, other)
        assert len(tokens(said[sequence])) == 2
        assert len(tokens(said[other])) == 3

    def test_at_the_last_token_and_after_it_nothing_changes(self, model: Any) -> None:
        core, sequence = core_of(model), sequence_of(PROMPTS[0], 2)
        said = run(core, sequence)
        core.abort(sequence)
        assert core.step() == []
        assert said[sequence][-1].finish_reason == "length"

    def test_before_it_was_added(self, model: Any) -> None:
        core, sequence = core_of(model), sequence_of(PROMPTS[0])
        core.abort(sequence)
        core.step()
        core.add(sequence)
        assert core.idle

    def test_a_deadline_ends_it(self, model: Any) -> None:
        core, sequence = core_of(model), sequence_of(PROMPTS[0], 200)
        core.add(sequence)
        core.step()
        sequence.deadline = time.monotonic() - 1
        ((_, delta),) = core.step()
        assert delta.finish_reason == "timeout"
        assert core.blocks.used == 0

    def test_who_says_that_it_is_stopped_ends_before_or_after_a_forward(self, model: Any) -> None:
        core, stopped = core_of(model), [False]
        sequence = sequence_of(PROMPTS[0])
        sequence.is_stopped = lambda: stopped[0]
        before_forward(model, lambda ids: stopped.__setitem__(0, core.steps == 3))
        deltas = run(core, sequence)[sequence]
        assert deltas[-1].finish_reason == "cancelled"
        assert len(tokens(deltas)) == 2

    def test_who_cannot_say_whether_it_is_stopped_fails_alone(self, model: Any) -> None:
        core, sequence, other = core_of(model), sequence_of(PROMPTS[0]), sequence_of(PROMPTS[1])
        sequence.is_stopped = lambda: bool(1 / 0)
        said = run(core, sequence, other)
        assert isinstance(said[sequence][-1].error, ZeroDivisionError)
        assert said[other][-1].finish_reason == "length"

    def test_neighbours_answer_as_if_alone(self, model: Any) -> None:
        expected = generated(model, PROMPTS[:1], NEW)
        core, sequence = core_of(model), sequence_of(PROMPTS[0])
        victims = [sequence_of(prompt, 50) for prompt in PROMPTS[1:]]

        def abort_one_more(ids: torch.Tensor) -> None:
            for victim in victims[: max(0, core.steps - 2)]:
                core.abort(victim)

        before_forward(model, abort_one_more)
        assert tokens(run(core, sequence, *victims)[sequence]) == expected[0]


class TestFailures:
    POISON = 77

    def run_with_poison(self, core: EngineCore, model: Any) -> dict[Sequence, list[Delta]]:
        """Three good requests and between them one with the poison token; the good ones must be right."""
        model.set_attn_implementation("millrace")
        good = [sequence_of(prompt) for prompt in PROMPTS[:3]]
        bad = sequence_of([5, self.POISON, 6])
        said = run(core, good[0], bad, *good[1:])
        assert said[bad][-1].finish_reason == "error"
        assert [tokens(said[sequence]) for sequence in good] == self.expected
        return {bad: said[bad]}

    @pytest.fixture(autouse=True)
    def reference(self, model: Any) -> None:
        self.expected = generated(model, PROMPTS[:3], NEW)

    def test_an_exception_ends_the_request_that_causes_it(self, model: Any) -> None:
        core = core_of(model)
        failure = RuntimeError("poisoned")

        def refuse(ids: torch.Tensor) -> None:
            if self.POISON in ids:
                raise failure

        before_forward(model, refuse)
        ((_, deltas),) = self.run_with_poison(core, model).items()
        assert deltas[-1].error is failure

    def test_nan_ends_its_request_and_leaves_no_trace(self, model: Any) -> None:
        core = core_of(model, blocks=12)
        with torch.no_grad():
            model.get_input_embeddings().weight[self.POISON] = float("nan")
        for _ in range(3):  # the blocks are used again
            ((_, deltas),) = self.run_with_poison(core, model).items()
            assert isinstance(deltas[-1].error, ModelError)
            assert "not finite" in str(deltas[-1].error)

    def test_nan_of_a_prompt_that_was_aborted_leaves_no_trace(self, model: Any) -> None:
        core = core_of(model, blocks=12, tokens_per_step=4)
        with torch.no_grad():
            model.get_input_embeddings().weight[self.POISON] = float("nan")
        bad = sequence_of([self.POISON] * 50)
        core.add(bad)
        core.step()
        core.abort(bad)
        core.step()
        good = [sequence_of(prompt) for prompt in PROMPTS[:3]]
        assert [tokens(deltas) for deltas in run(core, *good).values()] == self.expected

    def test_out_of_memory_once_preempts_the_youngest(self, model: Any) -> None:
        core = core_of(model)
        failures = iter([5])

        def fail(ids: torch.Tensor) -> None:
            if core.steps == 5 and next(failures, None):
                raise torch.OutOfMemoryError("no more")

        before_forward(model, fail)
        good = [sequence_of(prompt) for prompt in PROMPTS[:3]]
        said = run(core, *good)
        assert [tokens(said[sequence]) for sequence in good] == self.expected
        assert core.scheduler.preemptions == 1

    def test_out_of_memory_again_and_again_fails_the_youngest_alone(self, model: Any) -> None:
        core = core_of(model)

        def fail(ids: torch.Tensor) -> None:
            if ids.numel() > 2 and core.steps > 1:
                raise torch.OutOfMemoryError("no more than two rows")

        before_forward(model, fail)
        good = [sequence_of(prompt) for prompt in PROMPTS[:3]]
        said = run(core, *good)
        assert [tokens(said[sequence]) for sequence in good[:2]] == self.expected[:2]
        last = said[good[2]][-1]
        assert last.finish_reason == "error"
        assert "out of memory" in str(last.error)

    def test_out_of_memory_at_every_forward_ends_them_all_and_not_the_engine(self, model: Any) -> None:
        core = core_of(model)
        full = [True]

        def fail(ids: torch.Tensor) -> None:
            if full:
                raise torch.OutOfMemoryError("none at all")

        before_forward(model, fail)
        said = run(core, *[sequence_of(prompt) for prompt in PROMPTS[:3]])
        assert [deltas[-1].finish_reason for deltas in said.values()] == ["error"] * 3
        full.clear()
        good = [sequence_of(prompt) for prompt in PROMPTS[:3]]
        assert [tokens(deltas) for deltas in run(core, *good).values()] == self.expected

    def test_text_that_cannot_be_decoded_ends_its_request(self, model: Any) -> None:
        def decode(ids: Any) -> str:
            if self.expected[1][3] in ids:
                raise ValueError("no such token")
            return "".join(f" {token}" for token in ids)

        core = core_of(model, decode=decode)
        good = [sequence_of(prompt) for prompt in PROMPTS[:2]]
        said = run(core, *good)
        assert said[good[1]][-1].finish_reason == "error"
        assert tokens(said[good[0]]) == self.expected[0]
