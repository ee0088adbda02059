"""Memory: what an engine takes at its peak, loading and serving, against what it was estimated to take."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

MIB = 1 << 20
EVERY = 0.003
"""Seconds between two looks at the process."""


def run() -> list[dict[str, Any]]:
    """The rows of the table; saving the weights and measuring each in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        for order in ("save", "measure"):
            child = subprocess.run(
                [sys.executable, "-m", "benchmarks.memory", order, directory],
                capture_output=True,
                text=True,
                check=False,
            )
            if child.returncode:
                raise RuntimeError(child.stderr.strip().splitlines()[-1])
    rows: list[dict[str, Any]] = json.loads(child.stdout)
    return rows


def save(path: Path) -> None:
    """A random Llama of 95 million parameters, 363 MiB."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.support.gated import tiny_tokenizer

    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=10,
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=tiny_tokenizer().eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)


def measure(path: Path) -> list[dict[str, Any]]:
    import torch
    from transformers import (  # imports are not the model
        AttentionInterface,  # noqa: F401
        AutoConfig,
        AutoModelForCausalLM,  # noqa: F401
    )

    import millrace.modules.local.assembling  # noqa: F401
    from millrace.modules.local import KV, Engine, Request, Sampling
    from millrace.modules.local.estimates import SPARE, activation_bytes, estimate_weights
    from millrace.modules.local.scheduler import TOKENS_PER_STEP
    from millrace.streaming.limits import Limits

    before, peak, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(EVERY):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    engine = Engine(path, kv=KV(fraction=0.01), limits=Limits(queue_timeout=600))
    engine.wait_ready(120)

    async def serve() -> None:
        sampling = Sampling(temperature=0.0, max_tokens=4)
        requests = [Request(token_ids=[7 + row] * 300, sampling=sampling) for row in range(8)]
        await asyncio.gather(*(engine.submit(request).result() for request in requests))

    asyncio.run(serve())
    done.set()
    watcher.join()
    status = engine.status()
    engine.close()
    pool = (status.blocks_total + 1) * status.block_size * 10 * 2 * 768 * 4
    activations = activation_bytes(AutoConfig.from_pretrained(path), torch.float32, TOKENS_PER_STEP)
    estimate = SPARE * estimate_weights(path).bytes(torch.float32) + pool + activations
    taken = peak[0] - before
    return [
        {
            "name": "memory of an engine at its peak, of the estimate",
            "value": taken / MIB,
            "unit": "MiB",
            "floor": estimate / MIB,
            "ratio": taken / estimate,
            "goal": "within 10 %",
            "ok": abs(taken / estimate - 1) < 0.1,
        }
    ]


def resident() -> int:
    """Bytes of this process in memory, weights that are mapped from files among them."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * sum(int(found) for found in re.findall(r"^Rss(?:Anon|File):\s+(\d+)", status, re.MULTILINE))


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save(Path(sys.argv[2]))
    else:
        print(json.dumps(measure(Path(sys.argv[2]))))
