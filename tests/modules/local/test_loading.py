"""Weights on disk: found, estimated, loaded, checked; and every refusal names its cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from millrace.modules.local import KV, Engine, Request, Sampling
from millrace.modules.local.architectures import check_architecture
from millrace.modules.local.attention import LayerShape
from millrace.modules.local.estimates import activation_bytes, check_memory, estimate_weights
from millrace.modules.local.loading import find_device, find_dtype, load
from millrace.modules.local.memory import PoolSize
from millrace.modules.local.places import find_weights, shown_name
from millrace.modules.local.sizing import available_memory, pool_size
from millrace.modules.local.sources import EngineSettings, Source
from millrace.streaming.errors import ModelError
from millrace.streaming.limits import Limits
from tests.support.gated import tiny_model, tiny_tokenizer

from .families import core_of, model_of

CPU = torch.device("cpu")
PARAMETERS = sum(parameter.numel() for parameter in tiny_model().parameters())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as transformers saves it, in float16."""
    path = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_model().half().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def settings_of(source: Source, **changes: Any) -> EngineSettings:
    options = {"device": "cpu", "dtype": "auto", "quantization": None, **changes}
    return EngineSettings(source, kv=KV(), limits=Limits(), chat_template=None, **options)


def load_quietly(source: Source, **changes: Any) -> Any:
    return load(settings_of(source, **changes), lambda fraction, stage: None)


class TestFinding:
    def test_a_directory(self, directory: Path) -> None:
        assert find_weights(directory) == find_weights(str(directory)) == directory

    def test_a_name_in_the_hubs_cache(
        self, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        place = tmp_path / "models--org--tiny"
        for snapshot in ("aaa", "bbb"):
            (place / "snapshots" / snapshot).mkdir(parents=True)
            for file in directory.iterdir():
                (place / "snapshots" / snapshot / file.name).symlink_to(file)
        assert find_weights("org/tiny").parent == place / "snapshots"
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("aaa")
        assert find_weights("org/tiny").name == "aaa"

    def test_where_it_is_is_not_told_to_others(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert shown_name(directory) == shown_name(f"{directory}/") == directory.name
        monkeypatch.chdir(directory)
        assert shown_name(".") == directory.name
        assert shown_name("org/tiny") == "org/tiny"

    def test_other_formats_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "pytorch_model.bin").write_bytes(b"")
        with pytest.raises(ModelError, match=r"only pytorch_model\.bin.*save_pretrained"):
            find_weights(tmp_path)

    def test_a_directory_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"no config\.json"):
            find_weights(tmp_path)

    def test_a_file(self, directory: Path) -> None:
        with pytest.raises(ModelError, match="is a file; give the directory"):
            find_weights(directory / "config.json")


class TestEstimates:
    def test_weights_are_counted_from_the_headers(self, directory: Path) -> None:
        estimate = estimate_weights(directory)
        assert estimate.floats == PARAMETERS
        assert estimate.bytes(None) == PARAMETERS * 2
        assert estimate.bytes(torch.float32) == PARAMETERS * 4

    def test_what_does_not_fit_is_refused_with_the_figures(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("millrace.modules.local.estimates.available_memory", lambda device: 1000)
        with pytest.raises(ModelError, match=r"take about 0\.00 GiB.*0\.00 GiB free"):
            check_memory(directory, torch.float32, CPU)

    def test_activations_count(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(directory)
        wide = activation_bytes(config, torch.float32, 512)
        assert wide == 3 * 512 * config.intermediate_size * 4
        room = int(estimate_weights(directory).bytes(torch.float32) * 1.05) + wide
        monkeypatch.setattr("millrace.modules.local.estimates.available_memory", lambda device: room)
        check_memory(directory, torch.float32, CPU, wide)
        with pytest.raises(ModelError, match=r"GiB free"):
            check_memory(directory, torch.float32, CPU, wide + 1)

    def test_a_broken_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "model.safetensors").write_bytes(b"<html>not found</html>")
        with pytest.raises(ModelError, match=r"model\.safetensors is no safetensors file"):
            estimate_weights(tmp_path)

    def test_files_of_the_index_alone_count(self, directory: Path, tmp_path: Path) -> None:
        for name in ("part-1.safetensors", "part-2.safetensors", "consolidated.safetensors"):
            (tmp_path / name).symlink_to(directory / "model.safetensors")
        index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        assert estimate_weights(tmp_path).floats == 2 * PARAMETERS


class TestPoolSize:
    SHAPES = (LayerShape(2, 16, 16, None),) * 3
    BLOCK = 3 * 2 * 32 * 4 * 16

    def size(self, kv: KV, free: int = 1 << 40, longest: int = 4000, device: str = "cpu") -> PoolSize:
        return pool_size(kv, self.SHAPES, torch.float32, torch.device(device), free, longest)

    def test_never_more_than_all_running_contexts(self) -> None:
        size = self.size(KV())
        assert (size.blocks, size.tokens, size.block_bytes) == (250, 4000, self.BLOCK)
        assert size.bytes == 251 * self.BLOCK

    @pytest.mark.parametrize(
        ("fraction", "device", "share"),
        [(0.5, "cpu", 50), ("auto", "cpu", 25), (1.0, "cpu", 100), ("auto", "cuda", 85)],
    )
    def test_a_share_of_the_free_memory(self, fraction: Any, device: str, share: int) -> None:
        assert self.size(KV(fraction=fraction), 100 * self.BLOCK, device=device).blocks == share - 1

    def test_auto_is_at_most_four_gigabytes_on_the_cpu(self) -> None:
        assert self.size(KV(), longest=10**9).bytes <= 4 << 30

    def test_too_little_is_refused_with_the_figures(self) -> None:
        with pytest.raises(ModelError, match=r"less than one block of 16 tokens"):
            self.size(KV(fraction=0.5), free=1000)

    def test_this_machine_has_memory(self) -> None:
        assert 1 << 20 < available_memory(CPU) < 1 << 50

    @pytest.mark.parametrize(
        ("membership", "group", "names"),
        [
            (
                "0::/app.slice/millrace.service",
                "app.slice/millrace.service",
                ("memory.max", "memory.current"),
            ),
            ("0::/app.slice/millrace.service", "app.slice", ("memory.max", "memory.current")),
            ("0::/app.slice", "", ("memory.max", "memory.current")),
            ("0::/../elsewhere", "", ("memory.max", "memory.current")),
            (
                "5:cpu:/x\n4:memory:/docker/f00",
                "memory/docker/f00",
                ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            ),
            (
                "4:cpu,memory:/docker/f00\n0::/",
                "memory",
                ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            ),
        ],
    )
    def test_the_limit_of_a_cgroup_or_of_one_around_it(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        membership: str,
        group: str,
        names: tuple[str, str],
    ) -> None:
        (tmp_path / "membership").write_text(membership)
        monkeypatch.setattr("millrace.modules.local.sizing.MEMBERSHIP", tmp_path / "membership")
        monkeypatch.setattr("millrace.modules.local.sizing.CGROUP", tmp_path / "cgroup")
        assert available_memory(CPU) > 1 << 20
        for directory in ("app.slice/millrace.service", "memory/docker/f00"):
            (tmp_path / "cgroup" / directory).mkdir(parents=True)
        (tmp_path / "cgroup/app.slice/millrace.service/memory.max").write_text("max\n")
        for name, value in zip(names, ("5000\n", "4000\n"), strict=True):
            (tmp_path / "cgroup" / group / name).write_text(value)
        assert available_memory(CPU) == 1000
        (tmp_path / "cgroup" / group / "memory.stat").write_text(
            "anon 3200\nactive_file 300\ninactive_file 500\n"
        )
        assert available_memory(CPU) == 1800


class TestLoading:
    def test_float16_is_computed_in_float32_on_a_cpu(self, directory: Path) -> None:
        loaded = load_quietly(directory)
        assert loaded.dtype == torch.float32
        assert not loaded.model.training
        assert loaded.context_length == 512
        assert loaded.end_tokens == {tiny_tokenizer().eos_token_id}
        assert load_quietly(directory, dtype="float64").dtype == torch.float64

    def test_progress_tells_how_far_it_is(self, directory: Path) -> None:
        heard: list[tuple[float, str]] = []
        load(settings_of(directory), lambda *said: heard.append(said))
        assert heard[0] == (0.0, "reading config")
        assert any(stage.startswith("weights ") for _, stage in heard)
        assert heard == sorted(heard, key=lambda said: said[0])

    async def answer(self, engine: Engine) -> str:
        try:
            sampling = Sampling(temperature=0.0, max_tokens=12)
            return (await engine.submit(Request(prompt="the mill", sampling=sampling)).result()).text
        finally:
            engine.close()

    @pytest.mark.anyio
    async def test_from_disk_it_answers_as_from_memory(self, directory: Path) -> None:
        rounded = lambda: (tiny_model().half().float(), tiny_tokenizer())  # noqa: E731
        assert await self.answer(Engine(directory)) == await self.answer(Engine(rounded))

    @pytest.mark.anyio
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
    async def test_it_runs_in_every_dtype_and_with_smaller_keys_and_values(
        self, directory: Path, dtype: str
    ) -> None:
        assert await self.answer(Engine(directory, dtype=dtype))
        assert await self.answer(Engine(directory, kv=KV(dtype=dtype, block_size=8)))

    def test_code_of_the_directory_is_never_run(self, directory: Path, tmp_path: Path) -> None:
        for file in directory.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        config = json.loads((directory / "config.json").read_text())
        config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "mine.py").write_text("raise SystemExit('run')")
        with pytest.raises(ModelError, match="could not be loaded"):
            load_quietly(tmp_path)

    @pytest.mark.parametrize("device", ["cuda:99", "nothing", "cuda"])
    def test_devices_that_there_are_not(self, device: str) -> None:
        if device == "cuda" and torch.cuda.is_available():
            assert find_device(device).type == "cuda"
            return
        with pytest.raises(ModelError, match=rf"device='{device}'.*give auto"):
            find_device(device)

    @pytest.mark.parametrize("dtype", ["int8", "float8", "Tensor"])
    def test_dtypes_that_there_are_not(self, dtype: str) -> None:
        with pytest.raises(ModelError, match=rf"dtype='{dtype}'.*float32"):
            find_dtype(dtype, torch.float32, CPU)

    def test_a_quantisation_is_a_config(self, directory: Path) -> None:
        with pytest.raises(ModelError, match="BitsAndBytesConfig"):
            load_quietly(directory, quantization="int4")

    def test_a_quantisation_whose_library_is_missing_is_refused(self, directory: Path) -> None:
        from transformers import BitsAndBytesConfig

        with pytest.raises(ModelError, match=r"could not be loaded: .*(bitsandbytes|accelerate)"):
            load_quietly(directory, quantization=BitsAndBytesConfig(load_in_4bit=True))


class TestArchitectures:
    @pytest.mark.parametrize(
        ("name", "settings", "why"),
        [
            ("T5Config", {}, "does not generate text from text"),
            ("MambaConfig", {}, "layers of linear_attention"),
            ("BloomConfig", {}, "how long its context is"),
            ("DeepseekV3Config", {}, "latent"),
            ("Qwen3NextConfig", {}, "linear_attention"),
            ("Gemma3nTextConfig", {}, "share keys and values"),
        ],
    )
    def test_what_is_no_plain_decoder_is_refused_by_name(
        self, name: str, settings: dict[str, Any], why: str
    ) -> None:
        import transformers

        config = getattr(transformers, name)(**settings)
        with pytest.raises(ModelError, match=why) as error:
            check_architecture(config, "somewhere")
        assert "RemoteModel" in str(error.value)

    def test_a_model_that_computes_something_else_is_refused_with_the_figures(self) -> None:
        """Attention that sees what only its own mask code would hide."""
        model = model_of("llama", torch.float32)
        layer = model.model.layers[1].self_attn
        right = layer.forward

        def wrong(*args: Any, **options: Any) -> Any:
            layer.scaling = 3.0 if model.config._attn_implementation == "millrace" else 0.25
            return right(*args, **options)

        layer.forward = wrong
        with pytest.raises(ModelError, match=r"logits differ by [\d.]+ \(their spread is"):
            core_of(model)

    def test_a_model_whose_attention_cannot_be_exchanged_is_refused(self) -> None:
        from transformers import BloomConfig, BloomForCausalLM

        model = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=2))
        with pytest.raises(ModelError, match="BloomForCausalLM"):
            load_quietly(lambda: (model, None))
