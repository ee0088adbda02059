"""Hints: annotations as JSON schemas, and inputs that are checked against them."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, Optional

import pytest
import typing_extensions

from millrace.launchers.api.hints import Hint
from millrace.launchers.api.refusals import Refusal


class Size(typing.TypedDict, total=False):
    width: int


class Order(typing.TypedDict):
    item: str
    note: NotRequired[str]
    sizes: list[Size]


class OwnSize(typing_extensions.TypedDict, total=False):
    width: int


class OwnOrder(typing_extensions.TypedDict):
    item: str
    note: NotRequired[str]
    sizes: list[OwnSize]


class Node(typing.TypedDict):
    after: Optional[Node]  # noqa: UP045


ORDER = {"item": "flour", "sizes": [{}, {"width": 2}]}


@pytest.mark.parametrize(
    ("hint", "twin", "value"),
    [
        (Order, OwnOrder, ORDER),
        (list[Order], list[OwnOrder], [ORDER]),
        (Sequence[Order], Sequence[OwnOrder], []),
        (Order | None, OwnOrder | None, None),
        (Optional[Order], Optional[OwnOrder], ORDER),  # noqa: UP045
        (dict[str, Order], dict[str, OwnOrder], {"a": ORDER}),
        (tuple[Order, int], tuple[OwnOrder, int], [ORDER, 1]),
        (Annotated[Order | int, "either"], Annotated[OwnOrder | int, "either"], 3),
    ],
    ids=str,
)
def test_a_typed_dict_of_pythons_own(hint: Any, twin: Any, value: object) -> None:
    """Of `typing` as of typing_extensions, at any place of an annotation."""
    schema = Hint(hint).schema
    assert str(Hint(twin).schema).replace("Own", "") == str(schema)
    assert Hint(hint).check(value, "input") == Hint(twin).check(value, "input")
    with pytest.raises(Refusal, match="input"):
        Hint(hint).check("flour", "input")


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"sizes": []}, "input.item"),
        ({**ORDER, "note": 5}, "input.note"),
        ({**ORDER, "sizes": [{"width": "wide"}]}, "input.sizes[0].width"),
    ],
    ids=["lacks", "wrong", "wrong within"],
)
def test_what_is_wrong_in_one(value: object, where: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Hint(Order).check(value, "input")
    assert (refusal.value.status, refusal.value.param) == (422, where)


def test_one_within_itself_passes_unchecked() -> None:
    assert Hint(Node).schema == {}
    assert Hint(Node).check({"after": 7}, "input") == {"after": 7}


def test_words_that_may_be_given_are_no_types() -> None:
    assert Hint(Literal["a", "b"]).schema == {"enum": ["a", "b"], "type": "string"}
