"""Which architectures the engine can run: refused by name, before any weight is read."""

from __future__ import annotations

from typing import Any

from ...streaming.errors import ModelError

__all__ = ["check_architecture", "unsupported"]

LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})


def check_architecture(config: Any, name: str) -> None:
    """Refuses models that are no decoders with plain attention in every layer.

    What is not told by a config, the load probe finds out.

    Raises:
        ModelError: names the architecture and what it has.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    text = config.get_text_config()
    kinds = sorted(set(getattr(text, "layer_types", None) or ()) - LAYER_TYPES)
    for has, what in (
        (config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "it does not generate text from text"),
        (getattr(config, "is_encoder_decoder", False), "it has an encoder"),
        (kinds, f"it has layers of {', '.join(kinds)}"),
        (getattr(text, "kv_lora_rank", None), "its keys and values are latent (MLA)"),
        (getattr(text, "num_kv_shared_layers", None), "its layers share keys and values"),
        (not getattr(text, "max_position_embeddings", None), "it does not say how long its context is"),
    ):
        if has:
            raise unsupported(architecture(config), what, name)


def architecture(config: Any) -> str:
    """The name of the model's class, or else its type."""
    return str((getattr(config, "architectures", None) or [config.model_type])[0])


def unsupported(architecture: str, why: str, name: str = "") -> ModelError:
    """The error for a model that the engine would run wrongly or not at all."""
    of = f" ({name})" if name else ""
    return ModelError(
        f"{architecture}{of} cannot run in the local engine: {why}. Use another model, or a server for it through "
        "RemoteModel"
    )
