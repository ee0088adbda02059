from __future__ import annotations

import math
from typing import Any

import pytest

from millrace.modules.local import KV, Request, Sampling
from millrace.streaming.messages import Message


@pytest.mark.parametrize(
    ("field", "wrong", "range_"),
    [
        ("temperature", -0.1, "from 0"),
        ("temperature", math.nan, "from 0"),
        ("temperature", math.inf, "from 0"),
        ("temperature", "hot", "from 0"),
        ("temperature", True, "from 0"),
        ("top_k", -1, "from 0"),
        ("top_k", 1.5, "from 0"),
        ("top_p", 0.0, "above 0 to 1"),
        ("top_p", 1.1, "above 0 to 1"),
        ("min_p", -0.1, "from 0 to 1"),
        ("repetition_penalty", 0.0, "above 0"),
        ("presence_penalty", 2.1, "from -2 to 2"),
        ("frequency_penalty", -2.1, "from -2 to 2"),
        ("max_tokens", 0, "from 1"),
        ("seed", "one", "from -"),
        ("logprobs", 21, "from 0 to 20"),
        ("logit_bias", {-1: 1.0}, "token ids from 0"),
        ("logit_bias", {1: math.nan}, "finite"),
        ("stop", "", "at least one character"),
        ("stop", ["a", ""], "at least one character"),
        ("stop_token_ids", [-3], "from 0"),
    ],
)
def test_sampling_names_the_field_the_value_and_the_range(field: str, wrong: Any, range_: str) -> None:
    with pytest.raises(ValueError, match=r"Sampling\(" + field) as error:
        Sampling(**{field: wrong})
    assert range_ in str(error.value)


def test_sampling_replace_checks_again() -> None:
    sampling = Sampling(temperature=0.5, stop="###")
    assert sampling.replace(top_p=0.9) == Sampling(temperature=0.5, stop="###", top_p=0.9)
    assert sampling.stops == ("###",)
    with pytest.raises(ValueError, match="top_p"):
        sampling.replace(top_p=2)


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, True, "all", 20])
def test_kv_refuses_shares_that_are_none(fraction: Any) -> None:
    with pytest.raises(ValueError, match=r"KV\(fraction=.*above 0 and up to 1"):
        KV(fraction=fraction)


@pytest.mark.parametrize(("field", "wrong"), [("dtype", "int4"), ("block_size", 0), ("block_size", 2000)])
def test_kv_names_the_field(field: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"KV\({field}="):
        KV(**{field: wrong})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "exactly one of messages, prompt and token_ids; given: none"),
        ({"prompt": "x", "token_ids": [1]}, "given: prompt, token_ids"),
        ({"messages": []}, r"at least one message, such as Message.user"),
        ({"prompt": ""}, "at least one character"),
        ({"token_ids": []}, "at least one token id"),
        ({"prompt": "x", "drop_oldest": -1}, "from 0"),
    ],
)
def test_a_request_is_one_question(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Request(**given)


def test_a_request_takes_messages() -> None:
    assert Request(messages=[Message.user("Hi")]).sampling == Sampling()
