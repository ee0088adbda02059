"""Scheduler: which sequences run in the next step, and how many of their tokens."""

from __future__ import annotations

from collections import Counter, deque

from .blocks import BlockManager
from .sequences import Sequence

__all__ = ["TOKENS_PER_STEP", "Pace", "Scheduler"]

TOKENS_PER_STEP = 512
"""Tokens in one forward at most; longer prompts run in chunks."""


class Pace:
    """How many prompt tokens a step takes: as many as run in half a second, since nothing stops a forward.

    Time is that of the engine's own thread, so what others do on the machine does not count.
    """

    LONGEST = 0.5
    """Seconds."""
    LEAST = 32
    """Tokens; shorter steps waste time and tell little about it."""

    def __init__(self, most: int) -> None:
        self.most = self.tokens = most

    def note(self, tokens: int, seconds: float) -> None:
        """A step with so many tokens took so long."""
        if tokens >= self.LEAST and seconds > 0:
            self.tokens = min(max(int(tokens / seconds * self.LONGEST), self.LEAST), self.most)


class Scheduler:
    """Lets sequences join and leave between steps.

    Each step runs every decoding sequence by one token, then fills up with chunks of prompts, oldest first. A
    sequence is admitted when there are blocks for all of its prompt; where several sessions wait, the one with the
    least at work is next, so that nobody's many requests keep another's few waiting. When blocks run out while
    decoding, the youngest sequence loses its blocks and waits; it is computed again later, with the same tokens, and
    so goes on as if nothing had happened.
    """

    def __init__(self, blocks: BlockManager, running: int, tokens_per_step: int = TOKENS_PER_STEP) -> None:
        self.blocks = blocks
        self.limit = running
        self.pace = Pace(tokens_per_step)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        """In the order of admission: the last one is the youngest."""
        self.preemptions = 0
        self.unclean: list[int] = []
        """Blocks that were given back and may hold NaN; to be cleared before the next forward."""

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def schedule(self) -> list[Sequence]:
        """The sequences of the next step, each with its `scheduled` tokens set and its blocks in place."""
        decoding = self._schedule_decoding()
        budget = max(self.pace.tokens - len(decoding), 1)
        chunks = []
        for sequence in self._prompts(budget):
            sequence.scheduled = min(sequence.remaining, budget)
            budget -= sequence.scheduled
            chunks.append(sequence)
            if not budget:
                break
        return decoding + chunks

    def _schedule_decoding(self) -> list[Sequence]:
        scheduled = []
        for sequence in list(self.running):
            if sequence.remaining != 1 or not sequence.running:
                continue  # a prompt, or one that has just been preempted
            while not self.blocks.grow(sequence, len(sequence.tokens)):
                youngest = self.running[-1]
                self.preempt(youngest)
                if youngest is sequence:
                    break
            else:
                sequence.scheduled = 1
                scheduled.append(sequence)
        return scheduled

    def _prompts(self, budget: int) -> list[Sequence]:
        """Sequences with a prompt to run: those running, oldest first, then the waiting ones that fit."""
        found = [sequence for sequence in self.running if sequence.remaining > 1]
        wanted = sum(sequence.remaining for sequence in found)
        while wanted < budget and self.waiting and len(self.running) < self.limit:
            sequence = self._next_waiting()
            if sequence.finish_reason is None:
                cached = self.blocks.admit(sequence)
                if cached is None:
                    break
                if not self._begin(sequence, cached):
                    self.blocks.release(sequence)
                else:
                    found.append(sequence)
                    wanted += sequence.remaining
            self.waiting.remove(sequence)
        return found

    def _next_waiting(self) -> Sequence:
        """Whose turn it is: one that lost its place, else the first of the session with the least at work."""
        first = self.waiting[0]
        if first.preempted or not any(sequence.session != first.session for sequence in self.waiting):
            return first
        at_work = Counter(sequence.session for sequence in self.running)
        return min(self.waiting, key=lambda sequence: at_work[sequence.session])

    def _begin(self, sequence: Sequence, cached: int) -> bool:
        if sequence.listener is not None and not sequence.listener.begin():
            return False
        sequence.running, sequence.preempted = True, False
        sequence.computed = cached
        self.running.append(sequence)
        return True

    def preempt(self, sequence: Sequence) -> None:
        """Takes the blocks of a running sequence; it waits at the head of the line and is computed again."""
        self._give_back(sequence)
        sequence.computed = 0
        sequence.preempted = True
        self.waiting.appendleft(sequence)
        self.preemptions += 1
        if sequence.listener is not None:
            sequence.listener.pause()

    def finish(self, sequence: Sequence) -> None:
        """Takes a sequence out, wherever it stands, and its blocks back."""
        if sequence.running:
            self._give_back(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def _give_back(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        sequence.running = False
        released = self.blocks.release(sequence)
        if not sequence.verified:
            self.unclean += released
        sequence.verified = False
