"""The local engine against the model's own forward: tokens per second, and how fast a stop gives memory back.

Both sides run the same random Llama of 4 million parameters with one torch thread in a fresh process, in turns.
The raw side is a loop of greedy forwards with transformers' `DynamicCache`, prefill included, and nothing else; the
engine's side is everything up to text in an event loop: tokens, prompts, blocks, sampling, detokenising, delivery.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

PROMPT, NEW = 24, 64
ROUNDS = 9
GOALS = {1: 0.70, 16: 0.80}
STOPS = 30
BUSY, PAUSE = 0.003, 0.002
"""Seconds that the busy event loop computes, and then sleeps: 60 %."""


def run() -> list[dict[str, Any]]:
    """The rows of the table, measured in a process of their own."""
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.engine", "--child"], capture_output=True, text=True, check=False
    )
    if child.returncode:
        raise RuntimeError(child.stderr.strip().splitlines()[-1] if child.stderr.strip() else "no output")
    rows: list[dict[str, Any]] = json.loads(child.stdout)
    return rows


def measure() -> list[dict[str, Any]]:
    import torch

    from millrace.modules.local import Engine
    from tests.support.gated import tiny_tokenizer

    torch.set_num_threads(1)
    raw_model = llama()
    engine = Engine(lambda: (llama(), tiny_tokenizer()))
    engine.wait_ready(60)
    try:
        rows = [share(engine, raw_model, requests) for requests in GOALS]
        rows += [over_continuous_batching(engine), held_to_a_schema(engine)]
        rows += [prefix_again(engine), *asyncio.run(stops(engine))]
        beside = beside_busy_loop(engine, "thread")
    finally:
        engine.close()
    return [*rows, beside, *in_a_process(raw_model)]


def in_a_process(raw_model: Any) -> list[dict[str, Any]]:
    """The same of the engine in a process of its own."""
    from benchmarks.engine import load  # by its module's name, so that another process finds it
    from millrace.modules.local import Engine

    engine = Engine(load, process=True)
    engine.wait_ready(60)
    try:
        rows = [share(engine, raw_model, requests, "process engine") for requests in GOALS]
        return [*rows, beside_busy_loop(engine, "process")]
    finally:
        engine.close()


def load() -> tuple[Any, Any]:
    from tests.support.gated import tiny_tokenizer

    return llama(), tiny_tokenizer()


def llama() -> Any:
    """A random Llama with 4.2 million parameters that never ends an answer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.support.gated import tiny_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():  # a logit of 0 is never the largest of many random ones
        model.lm_head.weight[tiny_tokenizer().eos_token_id] = 0.0
    return model


def prompts_of(requests: int) -> list[list[int]]:
    return [[7 + (11 * row + 3 * at) % 400 for at in range(PROMPT)] for row in range(requests)]


def in_turns(
    first: Callable[[], float], second: Callable[[], float], rounds: int
) -> tuple[float, float, float]:
    """The medians of both after a first run of each, and the median of their ratios."""
    first(), second()
    pairs = [(first(), second()) for _ in range(rounds)]
    ratio = statistics.median(one / other for one, other in pairs)
    return statistics.median(one for one, _ in pairs), statistics.median(other for _, other in pairs), ratio


def share(engine: Any, model: Any, requests: int, name: str = "engine") -> dict[str, Any]:
    """Tokens per second of the engine at so many requests, and their share of the raw loop's."""
    prompts, goal = prompts_of(requests), GOALS[requests]
    ours, theirs, ratio = in_turns(
        lambda: asyncio.run(through_engine(engine, prompts)), lambda: raw(model, prompts), ROUNDS
    )
    return {
        "name": f"{name}, {requests} x {NEW} tokens, of the raw forward",
        "value": ours,
        "unit": "tokens/s",
        "floor": theirs,
        "ratio": ratio,
        "goal": f"> {100 * goal:.0f} %",
        "ok": ratio > goal,
    }


def over_continuous_batching(engine: Any) -> dict[str, Any]:
    """The same 16 requests through transformers' own continuous batching, its manager running before."""
    from transformers import GenerationConfig

    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    prompts, model = prompts_of(16), llama()
    config = GenerationConfig(max_new_tokens=NEW, do_sample=False, eos_token_id=-1, pad_token_id=0)

    def theirs() -> float:
        started = time.perf_counter()
        found = model.generate_batch(
            prompts, generation_config=config, progress_bar=False, persistent_manager=True
        )
        assert {len(answer.generated_tokens) for answer in found.values()} == {NEW}
        return len(prompts) * NEW / (time.perf_counter() - started)

    ours, floor, ratio = in_turns(lambda: asyncio.run(through_engine(engine, prompts)), theirs, 3)
    return {
        "name": f"engine, 16 x {NEW} tokens, over transformers' continuous batching",
        "value": ours,
        "unit": "tokens/s",
        "floor": floor,
        "ratio": ratio,
        "goal": "ratio > 2",
        "ok": ratio > 2,
    }


def held_to_a_schema(engine: Any) -> dict[str, Any]:
    """Sampled tokens under a JSON schema against sampled tokens without one, 16 requests."""
    rows = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "number"}},
        "required": ["a", "b"],
    }
    schema = {"type": "array", "minItems": 100, "items": rows}
    prompts = prompts_of(16)

    def speed(**held: Any) -> float:
        return asyncio.run(through_engine(engine, prompts, temperature=1.0, seed=1, **held))

    held, free, ratio = in_turns(lambda: speed(json_schema=schema), speed, 7)
    return {
        "name": f"16 x {NEW} tokens held to a JSON schema, of free ones",
        "value": held,
        "unit": "tokens/s",
        "floor": free,
        "ratio": ratio,
        "goal": "> 80 %",
        "ok": ratio > 0.8,
    }


def prefix_again(engine: Any) -> dict[str, Any]:
    """Time to the first token of an answer, where 400 of its 408 prompt tokens were there before, and where none."""
    from millrace.modules.local import Request, Sampling

    turns = iter(range(10_000))

    async def first_token(salt: str) -> float:
        prompt = [
            *(7 + (5 * place) % 400 for place in range(400)),
            *(9 + next(turns) % 400 for _ in range(8)),
        ]
        started = time.perf_counter()
        sampling = Sampling(temperature=0.0, max_tokens=1)
        await engine.submit(Request(token_ids=prompt, sampling=sampling, salt=salt)).result()
        return 1e3 * (time.perf_counter() - started)

    again, new, ratio = in_turns(
        lambda: asyncio.run(first_token("same")), lambda: asyncio.run(first_token(f"new {next(turns)}")), 15
    )
    return {
        "name": "first token, 400 of 408 prompt tokens known, against none",
        "value": again,
        "unit": "ms",
        "floor": new,
        "ratio": ratio,
    }


def beside_busy_loop(engine: Any, kind: str) -> dict[str, Any]:
    """The time of a step at 16 requests, with an event loop beside it that is 60 % busy and one that is idle."""
    prompts = prompts_of(16)

    def step(busy: bool) -> float:
        return 1e3 * len(prompts) / asyncio.run(through_engine(engine, prompts, busy))

    beside, idle, ratio = in_turns(lambda: step(True), lambda: step(False), 5)
    return {
        "name": f"engine step in a {kind}, 16 requests, beside a 60 % busy event loop",
        "value": beside,
        "unit": "ms",
        "floor": idle,
        "ratio": ratio,
        "goal": "ratio < 2",
        "ok": ratio < 2,
    }


async def through_engine(engine: Any, prompts: list[list[int]], busy: bool = False, **sampled: Any) -> float:
    """Tokens per second for all prompts at once, each read to its end; none finds a prefix of an earlier round."""
    from millrace.modules.local import Request, Sampling

    salt = f"round {time.perf_counter_ns()}"
    sampling = Sampling(**{"temperature": 0.0, "max_tokens": NEW, **sampled})

    async def one(prompt: list[int]) -> int:
        count = 0
        async for delta in engine.submit(Request(token_ids=prompt, sampling=sampling, salt=salt)):
            count += len(delta.token_ids)
        return count

    beside = asyncio.create_task(compute()) if busy else None
    started = time.perf_counter()
    counts = await asyncio.gather(*map(one, prompts))
    seconds = time.perf_counter() - started
    if beside is not None:
        beside.cancel()
    assert set(counts) == {NEW}
    return sum(counts) / seconds


async def compute() -> None:
    """Keeps an event loop 60 % busy."""
    while True:
        until = time.perf_counter() + BUSY
        while time.perf_counter() < until:
            json.dumps({"choices": [{"delta": {"content": "x"}}] * 20})
        await asyncio.sleep(PAUSE)


def raw(model: Any, prompts: list[list[int]]) -> float:
    """Tokens per second of the bare forward, all prompts in one batch."""
    import torch
    from transformers import DynamicCache

    with torch.inference_mode():
        started = time.perf_counter()
        cache = DynamicCache(config=model.config)
        tokens = torch.tensor(prompts)
        for _ in range(NEW):
            logits = model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            tokens = logits[:, -1].argmax(-1, keepdim=True)
        return len(prompts) * NEW / (time.perf_counter() - started)


async def stops(engine: Any) -> list[dict[str, Any]]:
    """From `cancel` to free blocks, while 15 others run: in forwards that the stopped one was in, and in ms."""
    from millrace.modules.local import Request, Sampling

    forwards, times = [], []
    for turn in range(STOPS):
        sampling = Sampling(temperature=0.0, max_tokens=400)
        running = [
            engine.submit(Request(token_ids=[7 + turn, at + 1], sampling=sampling)) for at in range(16)
        ]
        for generation in running:
            await anext(generation)
        started, before = time.perf_counter(), engine.status().steps
        running[0].cancel()
        await running[0].aclose()
        times.append(1e3 * (time.perf_counter() - started))
        forwards.append(engine.status().steps - before)
        for generation in running:
            generation.cancel()
        for generation in running:
            await generation.aclose()
        assert engine.status().blocks_used == 0
    return [
        {
            "name": "cancel to blocks free, of 16 requests, median of 30",
            "value": statistics.median(forwards),
            "unit": "steps",
            "goal": "<= 1 steps",
            "ok": statistics.median(forwards) <= 1,
        },
        {"name": "the same in time", "value": statistics.median(times), "unit": "ms"},
    ]


if __name__ == "__main__":
    measured = measure()
    if "--child" in sys.argv:
        print(json.dumps(measured))
    else:
        for row in measured:
            print(row)
