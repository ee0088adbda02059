from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from millrace.modules.local.blocks import BlockManager
from millrace.modules.local.sampling import Sampling
from millrace.modules.local.scheduler import Pace, Scheduler
from millrace.modules.local.sequences import Sequence


def sequence_of(prompt: int, new: int = 10) -> Sequence:
    return Sequence([1] * prompt, prompt, new, Sampling())


def scheduler_of(blocks: int = 100, running: int = 4, tokens_per_step: int = 16) -> Scheduler:
    return Scheduler(BlockManager(blocks, 4), running, tokens_per_step)


def step(scheduler: Scheduler) -> list[tuple[Sequence, int]]:
    """What the next step runs; then as if it had: prompts are further, answers one token longer."""
    scheduled = scheduler.schedule()
    found = [(sequence, sequence.scheduled) for sequence in scheduled]
    for sequence in scheduled:
        sequence.computed += sequence.scheduled
        if not sequence.remaining:
            sequence.tokens.append(1)
    return found


def test_prompts_are_packed_in_chunks_with_the_decode_rows() -> None:
    scheduler = scheduler_of(tokens_per_step=16)
    first, second, third = sequence_of(5), sequence_of(20), sequence_of(3)
    for sequence in (first, second, third):
        scheduler.add(sequence)
    assert step(scheduler) == [(first, 5), (second, 11)]
    assert step(scheduler) == [(first, 1), (second, 9), (third, 3)]
    assert step(scheduler) == [(first, 1), (second, 1), (third, 1)]


def test_no_more_run_than_may() -> None:
    scheduler = scheduler_of(running=2)
    sequences = [sequence_of(2) for _ in range(3)]
    for sequence in sequences:
        scheduler.add(sequence)
    assert [found for found, _ in step(scheduler)] == sequences[:2]
    scheduler.finish(sequences[0])
    assert [found for found, _ in step(scheduler)] == [sequences[1], sequences[2]]


def test_the_line_is_kept_when_its_head_does_not_fit() -> None:
    scheduler = scheduler_of(blocks=4)
    small, large, late = sequence_of(8), sequence_of(12), sequence_of(1)
    for sequence in (small, large, late):
        scheduler.add(sequence)
    assert [found for found, _ in step(scheduler)] == [small]
    scheduler.finish(small)
    assert [found for found, _ in step(scheduler)] == [large, late]


def test_the_youngest_gives_way_and_comes_back_first() -> None:
    scheduler = scheduler_of(blocks=4)
    old, young, waiting = sequence_of(7), sequence_of(7), sequence_of(9)
    for sequence in (old, young):
        scheduler.add(sequence)
    step(scheduler)
    scheduler.add(waiting)
    step(scheduler)
    assert [found for found, _ in step(scheduler)] == [old]
    assert list(scheduler.waiting) == [young, waiting]
    assert (young.computed, young.blocks, scheduler.preemptions) == (0, [], 1)
    scheduler.finish(old)
    assert step(scheduler)[0] == (young, len(young.tokens) - 1)


def test_the_pace_follows_the_machine() -> None:
    pace = Pace(512)
    pace.note(400, 0.01)
    assert pace.tokens == 512
    pace.note(200, 1.0)
    assert pace.tokens == 100, "half a second's worth"
    pace.note(5, 60.0)
    assert pace.tokens == 100, "too few tokens to tell"
    pace.note(100, 60.0)
    assert pace.tokens == 32


class Gone:
    """A listener whose request is over."""

    def begin(self) -> bool:
        return False

    def pause(self) -> None:
        raise AssertionError("it never ran")


def test_who_is_gone_is_passed_over() -> None:
    scheduler = scheduler_of()
    gone, here = sequence_of(3), sequence_of(3)
    gone.listener = Gone()
    for sequence in (gone, here):
        scheduler.add(sequence)
    assert [found for found, _ in step(scheduler)] == [here]
    assert gone.blocks == []
    assert not scheduler.waiting


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 20)), min_size=1, max_size=12),
    st.integers(13, 40),
    st.integers(1, 20),
    st.integers(1, 6),
)
def test_everybody_gets_to_the_end(
    requests: list[tuple[int, int]], blocks: int, tokens_per_step: int, running: int
) -> None:
    scheduler = scheduler_of(blocks, running, tokens_per_step)
    sequences = [sequence_of(prompt, new) for prompt, new in requests]
    for sequence in sequences:
        scheduler.add(sequence)
    for _ in range(5000):
        if scheduler.idle:
            break
        scheduled = step(scheduler)
        assert scheduled, "a step without work"
        decoding = sum(1 for _, count in scheduled if count == 1)
        assert sum(count for _, count in scheduled) <= max(tokens_per_step, decoding + 1)
        assert len(scheduler.running) <= running
        for sequence, _ in scheduled:
            assert len(sequence.blocks) * 4 >= sequence.computed
            if sequence.produced >= sequence.max_tokens:
                scheduler.finish(sequence)
    assert scheduler.idle
    assert scheduler.blocks.used == 0
    assert all(sequence.produced == sequence.max_tokens for sequence in sequences)
