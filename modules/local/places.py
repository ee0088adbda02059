"""Where weights are: a directory, or a model's place in the local cache of the model hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...streaming.errors import ModelError

__all__ = ["find_weights", "shown_name"]

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def find_weights(source: str | os.PathLike[str]) -> Path:
    """The directory with config and safetensors that a path or an `org/name` means; never asks a network.

    Raises:
        ModelError: there is none, or it has no safetensors; names the path and the cure.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _checked(path)
    if path.exists():
        raise ModelError(f"{path} is a file; give the directory that holds config.json and the weights")
    if HUB_NAME.fullmatch(str(source)):
        return _checked(_from_cache(str(source)))
    raise ModelError(
        f"there is no directory {path}; give one with config.json, the tokenizer and *.safetensors, or the "
        "org/name of a model in the local cache of the hub"
    )


def shown_name(source: str | os.PathLike[str]) -> str:
    """What a model is called in messages that others read too: `org/name`, or of a path its last part."""
    path = Path(source).expanduser()
    return path.resolve().name if path.is_dir() else os.fspath(source)


def _from_cache(name: str) -> Path:
    """The newest snapshot of a model in the hub's cache."""
    cache = cache_directory()
    place = cache / f"models--{name.replace('/', '--')}"
    main = place / "refs" / "main"
    if main.is_file():
        snapshot = place / "snapshots" / main.read_text(encoding="ascii").strip()
        if snapshot.is_dir():
            return snapshot
    snapshots = sorted((place / "snapshots").glob("*"), key=lambda found: found.stat().st_mtime)
    if snapshots:
        return snapshots[-1]
    raise ModelError(
        f"{name} is neither a directory nor in the local cache of the hub ({cache}); "
        f"fetch it first with: hf download {name}"
    )


def cache_directory() -> Path:
    """Where huggingface_hub keeps models, by its own environment variables."""
    for variable, inside in (("HF_HUB_CACHE", ""), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")):
        if value := os.environ.get(variable):
            return Path(value).expanduser() / inside
    return Path.home() / ".cache" / "huggingface" / "hub"


def _checked(path: Path) -> Path:
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} has no config.json; give the directory of a transformers model")
    if not any(path.glob("*.safetensors")):
        others = sorted(
            found.name for found in (*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.gguf"))
        )
        has = f" (only {', '.join(others[:3])})" if others else ""
        raise ModelError(
            f"{path} has no *.safetensors{has}; only safetensors are loaded, since other formats can run code. "
            "Save it again with model.save_pretrained(path)"
        )
    return path
