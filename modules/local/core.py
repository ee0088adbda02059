"""EngineCore: sequences in, text out, one step at a time; no threads, no event loop."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass, replace

from ...streaming.errors import ModelError
from .answer_parts import AnswerParts, AnswerSplitter
from .blocks import BlockManager
from .detokenizer import Detokenizer
from .memory import PoolSize
from .requests import Delta, FinishReason, TokenLogprobs
from .runner import ModelRunner
from .sampler import Sampled, Sampler
from .scheduler import TOKENS_PER_STEP, Scheduler
from .sequences import Sequence
from .stop_checker import StopChecker

__all__ = ["EngineCore", "Output"]

log = logging.getLogger("millrace.local")

Output = tuple[Sequence, Delta]
"""What a step has to say about a sequence."""


@dataclass(slots=True)
class Text:
    """A sequence's way from tokens to text."""

    detokenizer: Detokenizer
    stops: StopChecker
    splitter: AnswerSplitter | None

    def parts(self, text: str, last: bool) -> AnswerParts:
        """What a piece of text adds to the answer; at the `last` one everything that was held comes out."""
        if self.splitter is None:
            return AnswerParts(text)
        found = self.splitter.push(text)
        if last:
            rest = self.splitter.flush()
            found = AnswerParts(
                found.text + rest.text, found.reasoning + rest.reasoning, found.tool_calls + rest.tool_calls
            )
        return found


class EngineCore:
    """The engine itself: `add` a sequence, `abort` one, and call `step` until it is idle.

    All methods but `abort` belong to the one thread that owns the model; `abort` may be called from any.

    Args:
        runner: the model and its pool.
        size: of the pool.
        decode: token ids to text.
        end_tokens: the model's own end tokens.
        running: how many sequences run at once.
        tokens_per_step: tokens in one forward at most.
        spell: a token as text and as bytes, for whoever asks for log-probabilities.
    """

    def __init__(
        self,
        runner: ModelRunner,
        size: PoolSize,
        decode: Callable[[Several[int]], str],
        end_tokens: frozenset[int] = frozenset(),
        running: int = 16,
        tokens_per_step: int = TOKENS_PER_STEP,
        spell: Callable[[int], tuple[str, bytes | None]] | None = None,
    ) -> None:
        self.runner = runner
        self.blocks = BlockManager(size.blocks, size.block_size)
        self.scheduler = Scheduler(self.blocks, running, tokens_per_step)
        self.sampler = Sampler()
        self.steps = 0
        self.tokens_read = 0
        self.tokens_produced = 0
        self._decode = decode
        self._spell = spell or self._spell_simply
        self._end_tokens = end_tokens
        self._aborts: deque[tuple[Sequence, FinishReason]] = deque()
        self._texts: dict[Sequence, Text] = {}

    @property
    def idle(self) -> bool:
        """Nothing runs, nothing waits; there is nothing for a step to do."""
        return self.scheduler.idle and not self._aborts

    def add(self, sequence: Sequence) -> None:
        """Puts a sequence at the end of the line, unless it was aborted before."""
        if sequence.finish_reason is not None:
            return
        context = sequence.tokens[: sequence.prompt_length] if sequence.continues_text else ()
        self._texts[sequence] = Text(
            Detokenizer(self._decode, context), StopChecker(sequence.sampling.stops), sequence.splitter
        )
        self.scheduler.add(sequence)

    def abort(self, sequence: Sequence, reason: FinishReason = "cancelled") -> None:
        """Ends a sequence wherever it stands, at the next step; from any thread. One that is over stays as it is."""
        self._aborts.append((sequence, reason))

    def step(self) -> list[Output]:
        """Takes commands, schedules, runs the model, and says what came of it.

        A sequence that was aborted before the end of the forward gets no further token.
        """
        outputs = list(self._take_commands())
        scheduled = self.scheduler.schedule()
        if scheduled:
            self._clear_unclean()
            self.steps += 1
            complete = self._run(scheduled, outputs)
            outputs += self._take_commands()
            outputs += self._postprocess(complete)
        return outputs

    # ------------------------------------------------------------ commands

    def _sequences(self) -> list[Sequence]:
        return [*self.scheduler.running, *self.scheduler.waiting]

    def _take_commands(self) -> Iterator[Output]:
        while self._aborts:
            sequence, reason = self._aborts.popleft()
            if sequence.finish_reason is None:
                yield self._end(sequence, reason)
        now = time.monotonic()
        for sequence in self._sequences():
            if sequence.deadline is not None and now >= sequence.deadline:
                yield self._end(sequence, "timeout")
            elif sequence.is_stopped is not None:
                try:
                    if sequence.is_stopped():
                        yield self._end(sequence, "cancelled")
                except Exception as error:
                    yield self._end(sequence, "error", error=error)

    # ------------------------------------------------------------ running

    def _run(self, scheduled: list[Sequence], outputs: list[Output]) -> list[tuple[Sequence, Sampled]]:
        """One forward and the choice of tokens; whatever fails costs only the sequence it belongs to."""
        try:
            return self._forward(scheduled)
        except Exception as error:
            if _out_of_memory(error):
                return self._run_with_less(scheduled, error, outputs)
            return self._run_each(scheduled, error, outputs)

    def _forward(self, scheduled: list[Sequence]) -> list[tuple[Sequence, Sampled]]:
        for sequence in scheduled:
            sequence.verified = False
        began = time.thread_time()
        complete, logits = self.runner.run(scheduled)
        sampled = self.sampler.sample(complete, logits) if complete else []
        tokens = sum(sequence.scheduled for sequence in scheduled)
        self.scheduler.pace.note(tokens, time.thread_time() - began)
        for sequence in scheduled:
            self.tokens_read += max(0, min(sequence.scheduled, sequence.prompt_length - sequence.computed))
            sequence.computed += sequence.scheduled
        return list(zip(complete, sampled, strict=True))

    def _run_with_less(
        self, scheduled: list[Sequence], error: Exception, outputs: list[Output]
    ) -> list[tuple[Sequence, Sampled]]:
        """Out of memory: the youngest waits and the others try again; the second time it is the youngest's end."""
        youngest = max(scheduled, key=self.scheduler.running.index)
        log.warning("out of memory in a step of %d requests; trying with less", len(scheduled))
        self.runner.free_memory()
        rest = [sequence for sequence in scheduled if sequence is not youngest]
        youngest.failures += 1
        if youngest.failures > 1:
            outputs.append(self._end(youngest, "error", error=_memory_error(error)))
        else:
            self.scheduler.preempt(youngest)
        if not rest:
            return []
        try:
            return self._forward(rest)
        except Exception as again:
            if _out_of_memory(again):
                victim = max(rest, key=self.scheduler.running.index)
                outputs.append(self._end(victim, "error", error=_memory_error(again)))
                return []
            return self._run_each(rest, again, outputs)

    def _run_each(
        self, scheduled: list[Sequence], error: Exception, outputs: list[Output]
    ) -> list[tuple[Sequence, Sampled]]:
        """A forward has failed, and nobody knows whose fault it is: each runs alone, and who fails again ends."""
        if len(scheduled) == 1:
            outputs.append(self._end(scheduled[0], "error", error=error))
            return []
        found = []
        for sequence in scheduled:
            found += self._run([sequence], outputs)
        return found

    def _clear_unclean(self) -> None:
        if self.scheduler.unclean:
            self.runner.pool.zero(self.scheduler.unclean)
            self.scheduler.unclean = []

    # ------------------------------------------------------------ results

    def _postprocess(self, sampled: list[tuple[Sequence, Sampled]]) -> list[Output]:
        outputs = []
        for sequence, choice in sampled:
            if sequence.finish_reason is None:
                try:
                    outputs.append(self._accept(sequence, choice))
                except Exception as error:
                    outputs.append(self._end(sequence, "error", error=error))
        return outputs

    def _accept(self, sequence: Sequence, choice: Sampled) -> Output:
        """Takes a sampled token into its sequence, and says so."""
        if not choice.finite:
            error = ModelError("the model's logits are not finite (NaN or infinite); this request has ended")
            return self._end(sequence, "error", error=error)
        held_to = sequence.held_to
        if held_to is not None and choice.token not in self._end_tokens:
            held_to.accept(choice.token)
        sequence.verified = True
        self.blocks.share(sequence)
        sequence.tokens.append(choice.token)
        self.tokens_produced += 1
        text, reason = self._text_of(sequence, choice.token)
        way = self._texts[sequence]
        parts = way.parts(text, reason is not None)
        if reason == "stop" and way.splitter is not None and way.splitter.called:
            reason = "tool_calls"
        delta = Delta(
            parts.text,
            (choice.token,),
            logprobs=() if choice.logprobs is None else (self._spelled(choice.logprobs),),
            reasoning=parts.reasoning,
            tool_calls=parts.tool_calls,
        )
        return (sequence, delta) if reason is None else self._end(sequence, reason, delta)

    def _spelled(self, report: TokenLogprobs) -> TokenLogprobs:
        """A report of log-probabilities with its tokens as text and bytes."""
        assert report.token_id is not None
        text, data = self._spell(report.token_id)
        return replace(report, text=text, data=data, top=tuple(map(self._spelled, report.top)))

    def _spell_simply(self, token: int) -> tuple[str, bytes | None]:
        text = self._decode([token])
        return text, text.encode()

    def _text_of(self, sequence: Sequence, token: int) -> tuple[str, FinishReason | None]:
        """The text that may go out after this token, and whether it was the last one."""
        way = self._texts[sequence]
        if token in self._end_tokens or token in sequence.sampling.stop_token_ids:
            return way.stops.push(way.detokenizer.flush()) + way.stops.flush(), "stop"
        text = way.stops.push(way.detokenizer.push(token))
        if way.stops.stopped:
            return text, "stop"
        whole = sequence.constraint is not None and sequence.constraint.ended
        if whole or sequence.produced >= sequence.max_tokens:
            text += way.stops.push(way.detokenizer.flush())
            return text + way.stops.flush(), "stop" if whole or way.stops.stopped else "length"
        return text, None

    def _end(
        self,
        sequence: Sequence,
        reason: FinishReason,
        last: Delta | None = None,
        error: BaseException | None = None,
    ) -> Output:
        """Gives everything back that a sequence holds; its terminal delta."""
        sequence.finish_reason = reason
        if reason == "error":
            sequence.verified = False
        self.scheduler.finish(sequence)
        self.sampler.forget(sequence)
        self._texts.pop(sequence, None)
        last = replace(last or Delta(), finish_reason=reason, usage=sequence.usage, error=error)
        return sequence, last


def _out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no memory left for a tensor."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _memory_error(error: BaseException) -> ModelError:
    found = ModelError(
        f"out of memory in this request's step ({str(error).splitlines()[0][:200]}); "
        "reserve less with KV(fraction=...), or lower Limits(running=...)"
    )
    found.__cause__ = error
    return found
