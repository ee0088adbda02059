"""HTML is shown as written outside of code and formulas, and pictures become links."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.launchers.web.markup import code_block, escaped, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b & c", "a &lt; b & c"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("&lt;i&gt; &#60; &amp;", "&amp;lt;i&amp;gt; &amp;#60; &amp;amp;"),
        ("**bold** and > quote", "**bold** and > quote"),
        ("![x](http://example.com/x.png)", "[x](http://example.com/x.png)"),
        ("!!![x](http://example.com/x.png)", "&#33;&#33;[x](http://example.com/x.png)"),
        ("`<b>` and <b>", "`<b>` and &lt;b>"),
        ("``a ` <b>`` <b>", "``a ` <b>`` &lt;b>"),
        ("$$a < b$$ <b>", "$$a < b$$ &lt;b>"),
        (r"\(a < b\) \[c < d\] <b>", r"\(a < b\) \[c < d\] &lt;b>"),
        ("an open ` tick <b>", "an open ` tick &lt;b>"),
        ("```html\n<b>\n```\n<b>", "```html\n<b>\n```\n&lt;b>"),
        ("~~~\n<b>\n```\n<b>\n~~~\n<b>", "~~~\n<b>\n```\n<b>\n~~~\n&lt;b>"),
        ("````\n```\n<b>\n````\n<b>", "````\n```\n<b>\n````\n&lt;b>"),
        ("<b>\n```python\nx < 1", "&lt;b>\n```python\nx < 1"),
        ("", ""),
    ],
)
def test_only_code_keeps_its_angle_brackets(text: str, expected: str) -> None:
    assert shown(text) == expected


@given(st.text(st.sampled_from("ab <&;`~$!\n\\[]()#"), max_size=60))
def test_nothing_is_lost(text: str) -> None:
    kept = shown(text).replace("&lt;", "<").replace("&amp;", "&")
    assert unmarked(kept).replace("&#33;", "!") == unmarked(text)


def unmarked(text: str) -> str:
    """What would be pictures are links."""
    return re.sub(r"!(?=\[)", "", text)


@pytest.mark.parametrize("text", ["![a](b)", "!![a](b)", "!!![a](b)", "wow!![a](b)"])
def test_no_picture_is_left(text: str) -> None:
    assert "![" not in shown(text)
    assert shown(text).endswith("[a](b)")


@given(st.text(st.sampled_from("a`\n "), max_size=30))
def test_a_block_holds_any_text(text: str) -> None:
    block = code_block(text, "json")
    assert shown(f"{block}\n<b>") == f"{block}\n&lt;b>"


def test_attributes_cannot_be_left() -> None:
    assert escaped("""<a href="x" id='y'>&""") == "&lt;a href=&quot;x&quot; id=&#x27;y&#x27;&gt;&amp;"
