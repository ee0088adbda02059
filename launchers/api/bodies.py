"""Request bodies: JSON objects of bounded size, refused as early as it can be known that they are wrong."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from .patience import within
from .refusals import Refusal

__all__ = ["read_object"]


async def read_object(scope: Scope, receive: Receive, largest: int, seconds: float) -> dict[str, Any]:
    """The JSON object that a request carries.

    Args:
        largest: bytes that a body may have; a larger one is refused without being kept.
        seconds: in which the whole body must have come.

    Raises:
        Refusal: 415 no JSON, 413 too large, 408 too slow, 400 malformed.
        ClientDisconnect: the client left before the end of the body.
    """
    _check_head(dict(scope["headers"]), largest)
    message = await _next(receive, seconds)
    body = message.get("body", b"")
    if message.get("more_body"):
        body = await _rest(body, receive, largest, seconds)
    if len(body) > largest:
        raise too_large(largest)
    return parse_object(body) if len(body) < LARGE else await asyncio.to_thread(parse_object, body)


JSON = b"application/json"

LARGE = 64 * 1024
"""Bytes from which on a body is parsed beside the loop: it may take so long that others would notice."""


def _check_head(headers: Mapping[bytes, bytes], largest: int) -> None:
    kind = headers.get(b"content-type", b"")
    if kind != JSON and (kind := kind.partition(b";")[0].strip().lower()) != JSON:
        given = f", not {kind[:60].decode('latin-1')}" if kind else ""
        raise unsupported(f"the body must be JSON{given}; send the header Content-Type: application/json")
    if headers.get(b"content-encoding", b"").lower() not in (b"", b"identity"):
        raise unsupported("compressed bodies are not supported; leave the header Content-Encoding out")
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > largest:
        raise too_large(largest)


async def _next(receive: Receive, seconds: float) -> Message:
    try:
        message = await within(seconds, receive())
    except TimeoutError:
        raise too_slow() from None
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


async def _rest(first: bytes, receive: Receive, largest: int, seconds: float) -> bytes:
    """The body that comes in several pieces; at most one piece more than `largest` is ever held."""
    loop = asyncio.get_running_loop()
    pieces, size, more, end = [first], len(first), True, loop.time() + seconds
    while more and size <= largest:
        message = await _next(receive, max(0.0, end - loop.time()))
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        more = message.get("more_body", False)
    if size > largest:
        raise too_large(largest)
    return b"".join(pieces)


def unsupported(message: str) -> Refusal:
    return Refusal(415, message, "unsupported_media_type")


def too_slow() -> Refusal:
    return Refusal(
        408,
        "the body did not arrive in time; send it again",
        "request_timeout",
        headers={"connection": "close"},
    )


def too_large(largest: int) -> Refusal:
    return Refusal(
        413,
        f"the body is larger than {largest} bytes; send less, or have the server's max_body raised",
        "body_too_large",
    )


def parse_object(body: bytes) -> dict[str, Any]:
    """Strict JSON: UTF-8, an object, each name once, no NaN and nothing endless, at most DEEPEST levels.

    Raises:
        Refusal: 400, with the place where it stops being that.
    """
    try:
        text = body.decode()
        parsed = _parsed(text)
    except UnicodeDecodeError as error:
        raise malformed(f"the body is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise too_deep() from None
    except json.JSONDecodeError as error:
        raise malformed(f"the body is not JSON: {error}") from None
    except ValueError:  # how Python refuses whole numbers of thousands of digits
        raise malformed("the body has a number with too many digits") from None
    if not isinstance(parsed, dict):
        raise malformed('the body must be a JSON object, such as {"messages": [...]}')
    if text.count("[") + text.count("{") > DEEPEST and _is_deep(parsed):
        raise too_deep()
    return parsed


def _parsed(text: str) -> Any:
    """As `DECODER.decode`, which looks for white space around first: hardly any client sends some."""
    if text.startswith("{"):
        parsed, end = DECODER.raw_decode(text)
        if end == len(text) or not text[end:].strip(" \t\n\r"):
            return parsed
    return DECODER.decode(text)


DEEPEST = 100
"""Levels of objects and arrays within each other; whatever walks through them may call itself for each."""


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        parts = (item.values() if type(item) is dict else item for item in level)
        level = [item for part in parts for item in part if item and type(item) in (dict, list)]
        if not level:
            return False
    return True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise malformed(f"the name {twice[:60]!r} stands twice in one object")
    return found


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise malformed(f"the number {text[:20]} is too large")
    return number


def _no_constant(name: str) -> NoReturn:
    raise malformed(f"the body is not JSON: {name} is no JSON number")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number, parse_constant=_no_constant)


def malformed(message: str) -> Refusal:
    return Refusal(400, message, "invalid_json")


def too_deep() -> Refusal:
    return malformed(f"the body is nested too deeply: at most {DEEPEST} levels")
