"""Which texts go together: fair, small enough, each once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.modules.embeddings.batches import Batcher, Work
from millrace.modules.embeddings.jobs import EmbeddingJob


def work(*lengths: int) -> Work:
    job = EmbeddingJob(["x"] * len(lengths), lambda job: None)
    return Work(job, [[0] * length for length in lengths])


def batches(batcher: Batcher) -> list[list[tuple[Work, int]]]:
    found = []
    while batch := batcher.next_batch():
        found.append(batch)
    return found


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=20), max_size=6),
    st.integers(1, 120),
    st.integers(1, 8),
)
def test_each_text_once_and_never_too_many(jobs: list[list[int]], most: int, running: int) -> None:
    batcher = Batcher(most, running)
    works = [work(*lengths) for lengths in jobs]
    for each in works:
        batcher.add(each)
    found = batches(batcher)
    seen = [(works.index(owner), at) for batch in found for owner, at in batch]
    assert sorted(seen) == [(i, at) for i, lengths in enumerate(jobs) for at in range(len(lengths))]
    for batch in found:
        longest = max(len(owner.rows[at]) for owner, at in batch)
        assert len(batch) == 1 or longest * len(batch) <= most
        assert len({owner for owner, _ in batch}) <= running
    assert batcher.idle


def test_a_large_job_does_not_keep_a_small_one_waiting() -> None:
    batcher, large, small = Batcher(80, 8), work(*[10] * 1000), work(10)
    batcher.add(large)
    assert len(batcher.next_batch()) == 8
    batcher.add(small)
    assert (small, 0) in batcher.next_batch()


def test_alike_texts_go_together() -> None:
    batcher = Batcher(100, 8)
    batcher.add(work(*[1] * 20, *[50] * 2))
    lengths = [[len(owner.rows[at]) for owner, at in batch] for batch in batches(batcher)]
    assert lengths == [[50, 50], [1] * 20]


def test_no_more_jobs_at_once_than_may_run() -> None:
    batcher = Batcher(20, 1)
    first, second = work(10, 10, 10), work(10)
    batcher.add(first)
    batcher.add(second)
    assert [[owner is first for owner, _ in batch] for batch in batches(batcher)] == [
        [True, True],
        [True],
        [False],
    ]


def test_jobs_that_are_over_are_dropped() -> None:
    batcher = Batcher(10, 8)
    first, second = work(10, 10, 10), work(10)
    batcher.add(first)
    batcher.add(second)
    batcher.next_batch()
    first.job.cancel()
    assert {owner for batch in batches(batcher) for owner, _ in batch} <= {second}
    assert batcher.idle
