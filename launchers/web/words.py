"""The page's own words in English and Chinese: English is what the code says, the other language stands beside it.

A browser's language chooses. Words of the page itself are translated by Gradio in the browser; what the server makes is
translated on its way out, by the language that the request asks for. What has no translation stays English.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

__all__ = ["CHINESE", "LANGUAGES", "key_of", "language_of", "said", "translations"]

LANGUAGES = ("en", "zh")

CHINESE: Mapping[str, str] = {}


def key_of(words: str) -> str:
    """By which Gradio finds words in the browser."""
    return "mr-" + re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def translations() -> dict[str, dict[str, str]]:
    """For `gradio.I18n`: all words by their keys, for each language as browsers call it."""
    english = {key_of(words): words for words in CHINESE}
    chinese = {key_of(words): there for words, there in CHINESE.items()}
    return {"en": english} | dict.fromkeys(("zh", "zh-CN", "zh-TW", "zh-HK"), chinese)


def said(words: str, language: str) -> str:
    """Words in a language; parts that ` · ` keeps apart each by themselves."""
    if language != "zh" or not words:
        return words
    return " · ".join(map(_chinese, words.split(" · ")))


def language_of(scope: Mapping[str, Any] | None) -> str:
    """The language that a request asks for first, of those that there are (Accept-Language)."""
    values = (value for name, value in (scope or {}).get("headers", ()) if name == b"accept-language")
    asked = ((_weight(part), part.partition(";")[0].strip().lower()) for part in _parts(values))
    for _, tag in sorted(asked, key=lambda one: -one[0]):
        if tag[:2] in LANGUAGES and tag[2:3] in ("", "-"):
            return tag[:2]
    return LANGUAGES[0]


def _parts(values: Iterable[bytes]) -> list[str]:
    return [part for value in values for part in value.decode("latin-1").split(",")][:50]


def _weight(part: str) -> float:
    found = re.search(r";\s*q=([01](?:\.\d{1,3})?)", part)
    return float(found[1]) if found else 1.0


@lru_cache(maxsize=2000)
def _chinese(words: str) -> str:
    exact = CHINESE.get(words)
    if exact is not None:
        return exact
    for pattern, there in _patterns():
        found = pattern.fullmatch(words)
        if found is not None:
            return there.format(*found.groups())
    return words


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Words with gaps, `{}`, as what fits them."""
    return [
        (re.compile(re.escape(words).replace(r"\{\}", "(.+)"), re.DOTALL), there)
        for words, there in CHINESE.items()
        if "{}" in words
    ]
