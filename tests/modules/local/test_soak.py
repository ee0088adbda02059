"""Minutes of everything at once: many loops and threads, stops at any moment, failures, a pool that is too small."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any

import pytest
import torch

from millrace.modules.local import KV, Engine, Request, Sampling
from millrace.streaming.errors import Overloaded
from millrace.streaming.limits import Limits
from tests.support.gated import tiny_model, tiny_tokenizer
from tests.support.leaks import leaks

SECONDS = 60.0
LOOPS = 3
POISON, BROKEN = 300, 301


def load() -> tuple[Any, Any]:
    """The tiny model, to which one token is NaN and another an exception, and which runs out of memory at times."""
    torch.set_num_threads(1)
    model, rnd = tiny_model(), random.Random(5)
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = float("nan")

    def fail(_: Any, args: Any, options: Any) -> None:
        if "paged" in options and BROKEN in options["input_ids"]:
            raise RuntimeError("broken")
        if options["input_ids"].shape[1] > 3 and "paged" in options and rnd.random() < 0.01:
            raise torch.OutOfMemoryError("at times")

    model.register_forward_pre_hook(fail, with_kwargs=True)
    return model, tiny_tokenizer()


def request_of(rnd: random.Random) -> Request:
    tokens = [rnd.randrange(7, 290) for _ in range(rnd.randint(1, 120))]
    if rnd.random() < 0.03:
        tokens[-1] = rnd.choice([POISON, BROKEN])
    sampling = Sampling(
        temperature=rnd.choice([0.0, 0.7, 1.5]),
        top_p=rnd.choice([1.0, 0.9]),
        top_k=rnd.choice([0, 0, 20]),
        repetition_penalty=rnd.choice([1.0, 1.2]),
        logit_bias={POISON: -1e9, BROKEN: -1e9},
        max_tokens=rnd.randint(1, 60),
        stop=rnd.choice([(), "the", ["mill", "er"]]),
        logprobs=rnd.choice([None, 2]),
    )
    deadline = time.monotonic() + rnd.random() * 0.3 if rnd.random() < 0.1 else None
    return Request(token_ids=tokens, sampling=sampling, deadline=deadline)


async def one(engine: Engine, rnd: random.Random, ends: list[str]) -> None:
    """Takes a random part of one answer, and leaves it in a random way."""
    try:
        generation = engine.submit(request_of(rnd))
    except Overloaded:
        await asyncio.sleep(0.01)
        return
    way, takes, terminal = rnd.choice(["read", "leave", "cancel", "thread"]), rnd.randint(0, 20), 0
    if way == "thread":
        threading.Timer(rnd.random() * 0.1, generation.cancel).start()
    async for delta in generation:
        terminal += delta.finish_reason is not None
        takes -= 1
        if takes < 0 and way == "leave":
            break
        if takes < 0 and way == "cancel":
            generation.cancel()
    await generation.aclose()
    terminal += len([delta async for delta in generation if delta.finish_reason])
    assert terminal == 1
    assert generation.finish_reason is not None
    ends.append(generation.finish_reason)


async def many(engine: Engine, seed: int, until: float, ends: list[str]) -> None:
    async def worker(number: int) -> None:
        rnd = random.Random(seed * 1000 + number)
        while time.monotonic() < until:
            await one(engine, rnd, ends)

    await asyncio.gather(*(worker(number) for number in range(12)))


@pytest.mark.soak
@pytest.mark.timeout(SECONDS * 4)
def test_everything_at_once_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace.modules.local.assembling.available_memory", lambda device: 400_000)
    ends: list[str] = []
    with leaks():
        engine = Engine(load, kv=KV(fraction=0.9, block_size=8), limits=Limits(running=8, waiting=20))
        engine.wait_ready(60)
        until = time.monotonic() + SECONDS
        threads = [
            threading.Thread(target=lambda seed=seed: asyncio.run(many(engine, seed, until, ends)))  # type: ignore[misc]
            for seed in range(LOOPS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        status = engine.status()
        engine.close()
    assert (status.state, status.running, status.waiting, status.blocks_used) == ("ready", 0, 0, 0)
    assert sum(status.stops.values()) == len(ends)
    assert set(ends) >= {"length", "stop", "cancelled", "timeout", "error"}
    assert status.preemptions > 0
    print(f"{len(ends)} requests, {status.preemptions} preemptions, {dict(status.stops)}")
