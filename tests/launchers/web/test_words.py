"""Words in two languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from millrace.launchers.web import words
from millrace.launchers.web.words import CHINESE, key_of, language_of, retold, said, translations

WEB = Path(words.__file__).parent


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (b"zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (b"zh", "zh"),
        (b"fr, zh;q=0.5, en;q=0.9", "en"),
        (b"en;q=0.2, ZH-tw;q=0.9", "zh"),
        (b"zha", "en"),
        (b"fr", "en"),
        (b"", "en"),
        (b"\xff;q=x,,;", "en"),
    ],
)
def test_the_request_says_which(header: bytes, language: str) -> None:
    assert language_of({"headers": [(b"host", b"x"), (b"accept-language", header)]}) == language


def test_without_a_request_it_is_english() -> None:
    assert language_of(None) == language_of({"headers": []}) == "en"


def test_what_is_said() -> None:
    assert said("Retry", "en") == "Retry"
    assert said("Retry", "zh") == "重试"
    assert said("stopped · 12 tokens · first after 300 ms", "zh") == "已停止 · 12 个词元 · 首字用时 300 ms"
    assert said("a<b>.pdf is too large: 10 MiB at most", "zh") == "a<b>.pdf 太大：最多 10 MiB"
    assert said("what nobody has translated", "zh") == "what nobody has translated"
    assert said("", "zh") == ""


def test_both_languages_have_the_same_gaps() -> None:
    assert [
        english for english, chinese in CHINESE.items() if english.count("{}") != chinese.count("{}")
    ] == []


def test_each_word_has_a_key_of_its_own() -> None:
    told = translations()
    assert len(told["en"]) == len([words for words in CHINESE if "{}" not in words])
    assert set(told["en"]) == set(told["zh-CN"])
    assert told["zh"][key_of("New chat")] == "新对话"


def test_nothing_that_is_said_lacks_its_translation() -> None:
    calls = re.compile(r'\b(?:label|said|warn|_number|name)\(\s*"([^"#{]+)"')
    found = {text for path in WEB.glob("*.py") for text in calls.findall(path.read_text(encoding="utf-8"))}
    assert len(found) > 20
    assert found - set(CHINESE) == set()


def test_in_html_only_our_own_words_are_translated() -> None:
    html = '<p class="mr-line">No runs yet.</p><span>Stop</span><b aria-label="Timeline">Timeline</b>'
    assert retold(html, "en") == html
    there = '<p class="mr-line">还没有运行记录。</p><span>Stop</span><b aria-label="时间线">Timeline</b>'
    assert retold(html, "zh") == there
