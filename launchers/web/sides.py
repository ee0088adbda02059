"""The list at the side, as HTML. Titles are what users have written: they are escaped here, once."""

from __future__ import annotations

import json
from collections.abc import Iterable

from .markup import escaped
from .records import Heading
from .words import said

__all__ = ["side"]


WORDS = (
    "Conversations",
    "Copy code",
    "Delete",
    "Delete for good?",
    "Download as JSON",
    "Download as Markdown",
    "Rename",
    "Send",
    "Stop",
    "Title",
)
"""Those that chat.js says, which finds them in the list."""


def side(
    headings: Iterable[Heading],
    current: str,
    busy: Iterable[str],
    root: str,
    searched: bool = False,
    live: bool = False,
    language: str = "en",
) -> str:
    """The list. `current` is the id of the open conversation, `busy` those of the ones that answer; `root` is the
    page's path, without a slash at its end. `live` tells that the page does not follow an answer that it shows.
    """
    answering = set(busy)
    follow = " data-live" if live else ""
    rows = "".join(
        _row(heading, heading.id == current, heading.id in answering, language) for heading in headings
    )
    nothing = escaped(said("Nothing found" if searched else "No conversations yet", language))
    words = {word: said(word, language) for word in WORDS}
    return (
        f'<nav aria-label="{words["Conversations"]}" data-words="{escaped(json.dumps(words))}"'
        f' data-current="{escaped(current)}" data-root="{escaped(root)}"{follow}>'
        + (f"<ul>{rows}</ul></nav>" if rows else f"<p>{nothing}</p></nav>")
    )


def _row(heading: Heading, current: bool, busy: bool, language: str) -> str:
    title = escaped(heading.title)
    mark = (
        f'<span class="mr-busy" role="img" aria-label="{said("answering", language)}"></span>' if busy else ""
    )
    more = escaped(said(f"More about {heading.title}", language))
    here = ' aria-current="page"' if current else ""
    return (
        f'<li data-id="{escaped(heading.id)}">'
        f'<button type="button" class="mr-open" title="{title}"{here}><span>{title}</span>{mark}</button>'
        f'<button type="button" class="mr-more" aria-haspopup="menu" aria-label="{more}">'
        '<span aria-hidden="true">⋯</span></button></li>'
    )
