"""The local engine against the model's own forward: tokens per second, and how fast a stop gives memory back.

Both sides run the same random Llama of 4 million parameters with one torch thread in a fresh process, in turns.
The raw side is a loop of greedy forwards with transformers' `DynamicCache`, prefill included, and nothing else; the
engine's side is everything up to text in an event loop: tokens, prompts, blocks, sampling, detokenising, delivery.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from typing import Any

PROMPT, NEW = 24, 64
ROUNDS = 9
GOALS = {1: 0.70, 16: 0.80}
STOPS = 30


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
        return rows + asyncio.run(stops(engine))
    finally:
        engine.close()


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
    return LlamaForCausalLM(config).eval()


def share(engine: Any, model: Any, requests: int) -> dict[str, Any]:
    """Tokens per second of the engine at so many requests, and their share of the raw loop's, in turns."""
    prompts = [[7 + (11 * row + 3 * at) % 400 for at in range(PROMPT)] for row in range(requests)]
    asyncio.run(through_engine(engine, prompts))
    raw(model, prompts)
    pairs = [(asyncio.run(through_engine(engine, prompts)), raw(model, prompts)) for _ in range(ROUNDS)]
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    return {
        "name": f"engine, {requests} request{'s' if requests > 1 else ''} x {NEW} tokens",
        "value": statistics.median(ours for ours, _ in pairs),
        "unit": "tokens/s",
        "floor": statistics.median(theirs for _, theirs in pairs),
        "ratio": ratio,
        "goal": f"> {GOALS[requests]:.0%}".replace("%", " %"),
        "ok": ratio > GOALS[requests],
    }


async def through_engine(engine: Any, prompts: list[list[int]]) -> float:
    """Tokens per second for all prompts at once, each read to its end."""
    from millrace.modules.local import Request, Sampling

    async def one(prompt: list[int]) -> int:
        sampling = Sampling(temperature=0.0, max_tokens=NEW)
        count = 0
        async for delta in engine.submit(Request(token_ids=prompt, sampling=sampling)):
            count += len(delta.token_ids)
        return count

    started = time.perf_counter()
    counts = await asyncio.gather(*map(one, prompts))
    assert set(counts) == {NEW}
    return sum(counts) / (time.perf_counter() - started)


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
    """From `cancel` to free blocks, while 15 others run: in steps and in milliseconds."""
    from millrace.modules.local import Request, Sampling

    steps, times = [], []
    for turn in range(STOPS):
        sampling = Sampling(temperature=0.0, max_tokens=400)
        running = [
            engine.submit(Request(token_ids=[7 + turn, at + 1], sampling=sampling)) for at in range(16)
        ]
        for generation in running:
            await anext(generation)
        before, started = engine.status().steps, time.perf_counter()
        running[0].cancel()
        await running[0].aclose()
        times.append(1e3 * (time.perf_counter() - started))
        steps.append(engine.status().steps - before)
        for generation in running:
            generation.cancel()
        for generation in running:
            await generation.aclose()
        assert engine.status().blocks_used == 0
    return [
        {
            "name": "cancel to blocks free, worst of 30",
            "value": max(steps),
            "unit": "steps",
            "goal": "<= 1 step",
            "ok": max(steps) <= 1,
        },
        {"name": "cancel to blocks free, median", "value": statistics.median(times), "unit": "ms"},
    ]


if __name__ == "__main__":
    measured = measure()
    if "--child" in sys.argv:
        print(json.dumps(measured))
    else:
        for row in measured:
            print(row)
