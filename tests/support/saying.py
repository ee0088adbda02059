"""A real tiny model that says what the test has written, through its tokens, template and tags.

    engine = saying('<think>hm</think>bread <tool_call>{"name": "look", "arguments": {}}</tool_call>')
    LocalModel(engine, sampling=GREEDY, tools=[...])("corn")

Every prompt is answered with the same text, or with the next of several, and then the model ends.
"""

from __future__ import annotations

from typing import Any

from millrace.modules.local import Engine
from tests.support.gated import tiny_model, tiny_tokenizer

__all__ = ["TEMPLATE", "saying"]

TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% endfor %}<|assistant|>{# <think> <tool_call> #}"
)


def saying(*answers: str, special: bool = False, template: str = TEMPLATE) -> Engine:
    """An engine whose model answers each prompt with the next of `answers`, later ones with the last, and then ends.

    For one request at a time. `special`: the tags are special tokens.
    """
    armed: list[bool] = []

    def load() -> tuple[Any, Any]:
        from copy import deepcopy

        import torch

        tokenizer = deepcopy(tiny_tokenizer())
        tokenizer.add_tokens(["<think>", "</think>", "<tool_call>", "</tool_call>"], special_tokens=special)
        tokenizer.chat_template = template
        tokens = [tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
        said = [[*answer, tokenizer.eos_token_id] for answer in tokens]
        model = tiny_model()
        model.resize_token_embeddings(len(tokenizer))
        forward = model.forward
        place = {"answer": -1, "start": 0, "last": -2}

        def scripted(
            input_ids: Any = None, position_ids: Any = None, paged: Any = None, **options: Any
        ) -> Any:
            found = forward(input_ids=input_ids, position_ids=position_ids, paged=paged, **options)
            if armed and found.logits.shape[1] == 1:
                at = int(position_ids[0, -1])
                if position_ids.shape[1] > 1 or at != place["last"] + 1:
                    place["answer"], place["start"] = min(place["answer"] + 1, len(said) - 1), at
                place["last"] = at
                answer = said[place["answer"]]
                found.logits = torch.full_like(found.logits, -100.0)
                found.logits[0, 0, answer[min(at - place["start"], len(answer) - 1)]] = 100.0
            return found

        model.forward = scripted
        return model, tokenizer

    def arm(fraction: float, stage: str) -> None:
        if stage == "ready":
            armed.append(True)

    return Engine(load, progress=arm)
