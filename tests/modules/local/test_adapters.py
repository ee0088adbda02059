"""LoRA adapters are merged at load: the same answers as the adapter beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from millrace import LocalModel
from millrace.modules.local import Engine, Request, Sampling
from millrace.streaming.errors import ModelError
from tests.support.gated import tiny_model, tiny_tokenizer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LlamaForCausalLM

    path = tmp_path_factory.mktemp("weights")
    model = tiny_model()
    plain = LlamaForCausalLM(model.config)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """A LoRA adapter with random weights, large enough to change the answers."""
    path = tmp_path_factory.mktemp("adapter")
    adapted(weights).save_pretrained(path)
    return path


def adapted(weights: Path) -> Any:
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made = peft.get_peft_model(
            model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "up_proj"])
        )
        for name, parameter in made.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def greedy(model: Any, token_ids: list[int], count: int) -> list[int]:
    import torch

    tokens = torch.tensor([token_ids])
    with torch.inference_mode():
        for _ in range(count):
            tokens = torch.cat([tokens, model(tokens).logits[:, -1:].argmax(-1)], 1)
    return tokens[0, len(token_ids) :].tolist()


async def answer(engine: Engine, token_ids: list[int]) -> list[int]:
    request = Request(token_ids=token_ids, sampling=Sampling(temperature=0.0, max_tokens=12))
    found = list((await engine.submit(request).result()).token_ids)
    await engine.aclose()
    return found


@pytest.mark.parametrize("process", [False, True])
async def test_the_answers_are_the_adapters(weights: Path, adapter: Path, process: bool) -> None:
    prompt = [30, 40, 50]
    expected = greedy(adapted(weights), prompt, 12)
    assert await answer(Engine(weights, adapter=adapter, process=process), prompt) == expected
    assert await answer(Engine(weights), prompt) != expected


def test_an_adapter_is_an_engine_of_its_own(weights: Path, adapter: Path) -> None:
    one, other, plain = (
        LocalModel(weights, adapter=adapter),
        LocalModel(weights, adapter=str(adapter)),
        LocalModel(weights),
    )
    assert one.engine is other.engine
    assert one.engine is not plain.engine


async def test_what_cannot_be_merged_is_refused(weights: Path, adapter: Path, tmp_path: Path) -> None:
    async def refused(path: Path, match: str, **options: Any) -> None:
        engine = Engine(weights, adapter=path, **options)
        with pytest.raises(ModelError, match=match):
            await engine.ready()
        engine.close()

    await refused(tmp_path, "give the directory of a LoRA adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text("{")
    await refused(tmp_path, "cannot be read")
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "PREFIX_TUNING"}))
    await refused(tmp_path, "only LoRA adapters can be merged")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    await refused(tmp_path, "has no adapter_model.safetensors")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"nothing")
    await refused(tmp_path, "could not be")
    await refused(adapter, "quantised weights", quantization={"load_in_4bit": True})
