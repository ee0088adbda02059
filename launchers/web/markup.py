"""Text on its way into a chat page: Markdown is rendered, HTML is shown as written, other hosts are not asked.

The page sanitises what it renders all the same; this is why a tag is seen instead of swallowed.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

__all__ = ["code_block", "escaped", "inert", "shown"]

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_SPAN = re.compile(
    r"(?<!`)(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)|\$\$.+?\$\$|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL
)
_PICTURE = re.compile(r"!+\[")
_ENTITY = re.compile(r"&(?=#?\w+;)")


def escaped(text: str) -> str:
    """Text for the inside of an HTML element or attribute."""
    return html.escape(text, quote=True)


def shown(text: str) -> str:
    """Markdown whose HTML is shown and never run; a picture becomes a link, since loading it would ask its host.

    Code and formulas stay as they are: their content is shown literally anyway.
    """
    return "".join(part if code else _plain(part) for code, part in _parts(text))


def code_block(text: str, language: str = "") -> str:
    """A fenced block around text of any content."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _plain(text: str) -> str:
    return _PICTURE.sub(_link, _ENTITY.sub("&amp;", text).replace("<", "&lt;"))


def _link(match: re.Match[str]) -> str:
    """A picture without its mark; further ones before it must not become it."""
    return "&#33;" * (len(match[0]) - 2) + "["


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """Splits into (is code, text): fenced blocks, an unfinished one too, code spans, formulas."""
    kept: list[str] = []
    fence = ""
    for line in text.splitlines(keepends=True):
        match = _FENCE.match(line)
        if not fence and match:
            yield from _spans("".join(kept))
            kept, fence = [line], match[1]
        elif fence and match and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            yield True, "".join([*kept, line])
            kept, fence = [], ""
        else:
            kept.append(line)
    if fence:
        yield True, "".join(kept)
    else:
        yield from _spans("".join(kept))


def _spans(text: str) -> Iterator[tuple[bool, str]]:
    end = 0
    for match in _SPAN.finditer(text):
        yield False, text[end : match.start()]
        yield True, match[0]
        end = match.end()
    yield False, text[end:]


def inert(html: str) -> str:
    """HTML for a component that fills templates: nothing in it is taken for a part of one."""
    return html.replace("{{", "&#123;&#123;").replace("${", "&#36;{")
