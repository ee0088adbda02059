"""The list at the side, as HTML. Titles are what users have written: they are escaped here, once."""

from __future__ import annotations

from collections.abc import Iterable

from .markup import escaped
from .records import Heading

__all__ = ["side"]


def side(
    headings: Iterable[Heading],
    current: str,
    busy: Iterable[str],
    root: str,
    searched: bool = False,
    live: bool = False,
) -> str:
    """The list. `current` is the id of the open conversation, `busy` those of the ones that answer; `root` is the
    page's path, without a slash at its end. `live` tells that the page does not follow an answer that it shows.
    """
    answering = set(busy)
    rows = "".join(_row(heading, heading.id == current, heading.id in answering) for heading in headings)
    if not rows:
        rows = f"<p>{'Nothing found' if searched else 'No conversations yet'}</p>"
    follow = " data-live" if live else ""
    return (
        f'<nav aria-label="Conversations" data-current="{escaped(current)}" data-root="{escaped(root)}"{follow}>'
        f"<ul>{rows}</ul></nav>"
    )


def _row(heading: Heading, current: bool, busy: bool) -> str:
    title = escaped(heading.title)
    mark = '<span class="mr-busy" role="img" aria-label="answering"></span>' if busy else ""
    here = ' aria-current="page"' if current else ""
    return (
        f'<li data-id="{escaped(heading.id)}">'
        f'<button type="button" class="mr-open" title="{title}"{here}><span>{title}</span>{mark}</button>'
        f'<button type="button" class="mr-more" aria-haspopup="menu" aria-label="More about {title}">'
        '<span aria-hidden="true">⋯</span></button></li>'
    )
