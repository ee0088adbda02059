"""Loading a model: from a directory, from the local cache of the model hub, or from a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...streaming.errors import ModelError
from .adapters import check_adapter, merge_adapter
from .answer_parts import tags_of
from .architectures import check_architecture
from .estimates import activation_bytes, check_memory
from .norms import fuse_norms
from .places import find_weights
from .scheduler import TOKENS_PER_STEP
from .sources import EngineSettings

__all__ = ["LoadedModel", "load"]

Say = Callable[[float, str], None]
CPU_DTYPE = torch.float32
"""What float16 weights are computed in on a CPU, which is slow and coarse in 16 bits."""


@dataclass(slots=True)
class LoadedModel:
    """A model on its device, in evaluation mode, and what the engine must know about it."""

    model: Any
    tokenizer: Any
    name: str
    device: torch.device
    tags: dict[int, str] = field(default_factory=dict)
    """Special tokens that are text all the same: the tags of reasoning and of tool calls."""

    def __post_init__(self) -> None:
        template = str(getattr(self.tokenizer, "chat_template", None) or "")
        for tags in tags_of(template):
            for tag in (tags.opening, tags.closing or tags.opening) if tags is not None else ():
                token = self.tokenizer.get_vocab().get(tag)
                added = self.tokenizer.added_tokens_decoder.get(token)
                if added is not None and added.special:
                    self.tags[token] = tag

    @property
    def config(self) -> Any:
        return self.model.config.get_text_config()

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def vocab_size(self) -> int:
        return int(self.config.vocab_size)

    @property
    def context_length(self) -> int:
        """The most tokens the model was made for."""
        return int(self.config.max_position_embeddings)

    @property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end an answer: those of the generation config, the model's and the tokenizer's."""
        found: set[int] = set()
        for owner in (getattr(self.model, "generation_config", None), self.config, self.tokenizer):
            ids = getattr(owner, "eos_token_id", None)
            if ids is not None:
                found |= set(ids) if isinstance(ids, (list, tuple)) else {int(ids)}
        return frozenset(found)

    def decode(self, token_ids: Any) -> str:
        """Tokens to text, without special tokens (tags aside) and without tidying up spaces."""
        if self.tags and any(token in self.tags for token in token_ids):
            text = ""
            plain: list[int] = []
            for token in token_ids:
                if token in self.tags:
                    text, plain = text + self.decode(plain) + self.tags[token], []
                else:
                    plain.append(token)
            return text + self.decode(plain)
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            return str(backend.decode(list(token_ids), skip_special_tokens=True))
        return str(
            self.tokenizer.decode(
                list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )


def load(settings: EngineSettings, say: Say) -> LoadedModel:
    """Loads what the settings name; `say(fraction, stage)` hears how far it is.

    Raises:
        ModelError: no such weights, an unsupported kind, no such device; names the cure.
    """
    device = find_device(settings.device)
    if settings.adapter is not None:
        check_adapter(settings.adapter)
        if settings.quantization is not None:
            raise ModelError(
                "an adapter cannot be merged into quantised weights; merge first, or leave out one of both"
            )
    if callable(settings.source):
        say(0.1, "weights")
        with quiet():
            model, tokenizer = settings.source()
        check_architecture(model.config, type(model).__name__)
        name = type(model).__name__
    else:
        say(0.0, "reading config")
        path = find_weights(settings.source)
        name = str(settings.source)
        with quiet(lambda fraction: say(0.1 + 0.7 * fraction, f"weights {fraction:.0%}")):
            model, tokenizer = from_directory(path, settings, device, say)
    if settings.adapter is not None:
        say(0.8, "merging the adapter")
        model = merge_adapter(model, settings.adapter)
    dtype = find_dtype(settings.dtype, model.dtype, device)
    if model.dtype != dtype and settings.quantization is None:
        model = model.to(dtype)
    if settings.quantization is None:
        model = model.to(device)
    model = model.eval().requires_grad_(False)
    fuse_norms(model)
    return LoadedModel(model, tokenizer, name, device)


def find_device(wanted: str) -> torch.device:
    """The device of that name; `"auto"` is CUDA where there is one."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ModelError(f"device={wanted!r} is no device; give auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device={wanted!r}: there are {torch.cuda.device_count()} CUDA devices here; give auto or cpu"
        )
    return device


def find_dtype(wanted: str, own: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of that name; `"auto"` is the weights' own, but float32 for float16 on a CPU."""
    if wanted == "auto":
        return CPU_DTYPE if own == torch.float16 and device.type == "cpu" else own
    dtype = getattr(torch, wanted, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ModelError(f"dtype={wanted!r}: give auto, float32, bfloat16, float16 or float64")
    return dtype


def from_directory(path: Path, settings: EngineSettings, device: torch.device, say: Say) -> tuple[Any, Any]:
    """Model and tokenizer of a directory with safetensors; never code of the directory's own.

    Raises:
        ModelError: the architecture is not supported, the weights do not fit, a file is broken.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    offline: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(path, **offline)
        check_architecture(config, str(settings.source))
        dtype = find_dtype(settings.dtype, own_dtype(config), device)
        options = quantized(settings.quantization, device)
        if not options:
            check_memory(path, dtype, device, activation_bytes(config, dtype, TOKENS_PER_STEP))
        say(0.05, "tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(path, **offline)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, **offline, **options
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:500]
        raise ModelError(f"{settings.source} could not be loaded: {reason}") from error
    return model, tokenizer


def own_dtype(config: Any) -> torch.dtype:
    """The dtype in which a config says that its weights are."""
    dtype = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def quantized(config: Any, device: torch.device) -> dict[str, Any]:
    """The arguments that hand a quantisation to its library in transformers."""
    if config is None:
        return {}
    if not hasattr(config, "quant_method") and not isinstance(config, dict):
        raise ModelError(
            f"quantization={config!r}: give a quantisation config of transformers, such as "
            "BitsAndBytesConfig(load_in_4bit=True)"
        )
    return {"quantization_config": config, "device_map": {"": str(device)}}


@contextmanager
def quiet(progress: Callable[[float], None] | None = None) -> Iterator[None]:
    """Keeps transformers from writing to the terminal; its progress goes to `progress` instead."""
    from transformers.utils import logging

    class Bar(logging.EmptyTqdm):  # type: ignore[misc]
        """A progress bar that only counts, when it is the one of the weights."""

        def __init__(self, items: Any = None, *args: Any, **options: Any) -> None:
            super().__init__(items, *args, **options)
            self.items = items if options.get("desc") == "Loading weights" else None

        def __iter__(self) -> Any:
            total = len(self.items) if self.items is not None else 0
            for done, item in enumerate(self._iterator):
                if total and progress is not None and done % (1 + total // 20) == 0:
                    progress(done / total)
                yield item

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    previous = logging.set_tqdm_hook(lambda factory, args, options: Bar(*args, **options))
    try:
        yield
    finally:
        logging.set_tqdm_hook(previous)
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
