"""Answers that are held to a schema or an expression, from a model that would say anything."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace import LocalModel, Pipeline
from millrace.modules.local import Completion, Engine, Request, Sampling
from tests.support import paced
from tests.support.gated import tiny_engine

pytestmark = pytest.mark.anyio

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = tiny_engine()
    engine.wait_ready(60)
    yield engine
    engine.close()


async def answer(engine: Engine, prompt: str = "the mill", **sampling: Any) -> Completion:
    given = Sampling(**{"max_tokens": 300, **sampling})
    return await engine.submit(Request(prompt=prompt, sampling=given)).result()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_the_answer_is_json_of_the_schema(engine: Engine, temperature: float) -> None:
    done = await answer(engine, json_schema=PERSON, temperature=temperature, seed=3)
    assert done.finish_reason == "stop"
    jsonschema.validate(json.loads(done.text), PERSON)


async def test_the_answer_matches_the_expression(engine: Engine) -> None:
    done = await answer(engine, regex=r"[A-Z]{3}-\d{4}", seed=1)
    assert re.fullmatch(r"[A-Z]{3}-\d{4}", done.text)
    assert done.finish_reason == "stop"


async def test_neighbours_say_what_they_would_have_said(engine: Engine) -> None:
    alone = await answer(engine, "bread", temperature=0.0, max_tokens=30)
    held, beside = await asyncio.gather(
        answer(engine, json_schema=PERSON, seed=2), answer(engine, "bread", temperature=0.0, max_tokens=30)
    )
    assert beside.text == alone.text
    jsonschema.validate(json.loads(held.text), PERSON)


async def test_all_other_settings_go_with_it(engine: Engine) -> None:
    done = await answer(
        engine, json_schema=PERSON, seed=4, top_k=5, top_p=0.9, repetition_penalty=1.2, logprobs=2
    )
    jsonschema.validate(json.loads(done.text), PERSON)
    assert len(done.logprobs) == done.usage.completion_tokens


async def test_an_answer_that_is_cut_is_a_beginning(engine: Engine) -> None:
    done = await answer(engine, json_schema=PERSON, seed=5, max_tokens=3)
    assert done.finish_reason == "length"
    assert done.text.startswith("{")


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"json_schema": {"type": "nonsense"}}, "this json_schema cannot be held to"),
        ({"json_schema": {"$ref": "#/nowhere"}}, "this json_schema cannot be held to"),
        ({"json_schema": {"$ref": "#"}}, "this json_schema cannot be held to: nothing can come next"),
        ({"regex": "("}, "this regex cannot be held to"),
        ({"regex": r"a[^\s\S]"}, "this regex cannot be held to: nothing can come next"),
        ({"regex": r"(?=a)b"}, "this regex cannot be held to: look-around.* is not supported"),
    ],
)
async def test_what_cannot_be_held_to_fails_alone(engine: Engine, wrong: dict[str, Any], match: str) -> None:
    beside = engine.submit(Request(prompt="bread", sampling=Sampling(max_tokens=5)))
    with pytest.raises(ValueError, match=match):
        await answer(engine, **wrong)
    assert (await beside.result()).finish_reason == "length"


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="give one of both"):
        Sampling(json_schema={}, regex="a")
    with pytest.raises(ValueError, match="give a JSON schema as a dict"):
        Sampling(json_schema="{}")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give a regular expression"):
        Sampling(regex="")


def test_through_a_flow_and_a_process() -> None:
    engine = Engine(paced.load_plainly, process=True)
    model = LocalModel(engine, sampling={"json_schema": PERSON, "seed": 1, "max_tokens": 300})
    jsonschema.validate(json.loads(Pipeline(model)("the mill")), PERSON)
    engine.close()


def values(depth: int = 2) -> st.SearchStrategy[dict[str, Any]]:
    """JSON schemas whose values have an end."""
    simple = st.one_of(
        st.builds(lambda n: {"type": "string", "maxLength": n}, st.integers(0, 6)),
        st.builds(
            lambda a, b: {"type": "integer", "minimum": min(a, b), "maximum": max(a, b)},
            *[st.integers(-999, 999)] * 2,
        ),
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.builds(
            lambda words: {"enum": words},
            st.lists(
                st.one_of(st.text("abc é🦊", max_size=5), st.integers(-9, 9), st.none()),
                min_size=1,
                max_size=4,
                unique_by=repr,
            ),
        ),
        st.builds(lambda word: {"const": word}, st.text("xyz ", max_size=6)),
    )
    if not depth:
        return simple
    inner = values(depth - 1)
    names = st.text("abcdef_", min_size=1, max_size=4)
    return st.one_of(
        simple,
        st.builds(
            lambda items, least, more: {
                "type": "array",
                "items": items,
                "minItems": least,
                "maxItems": least + more,
            },
            inner,
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        st.builds(
            lambda properties, count: {
                "type": "object",
                "properties": properties,
                "required": sorted(properties)[:count],
                "additionalProperties": False,
            },
            st.dictionaries(names, inner, max_size=3),
            st.integers(0, 3),
        ),
        st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner),
    )


@pytest.mark.slow
def test_two_hundred_random_schemas(engine: Engine) -> None:
    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(schema=values(), seed=st.integers(0, 1000))
    def one(schema: dict[str, Any], seed: int) -> None:
        done = asyncio.run(answer(engine, json_schema=schema, seed=seed, max_tokens=400))
        assert done.finish_reason == "stop"
        jsonschema.validate(json.loads(done.text), schema)

    one()
