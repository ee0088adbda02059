"""Files as HTML: those of a turn, and those that wait for the next question. Names are escaped here, once."""

from __future__ import annotations

from collections.abc import Iterable

from .markup import escaped
from .shelves import StoredFile, size_of
from .words import said

__all__ = ["chosen", "listed"]


def listed(files: Iterable[StoredFile], path: str, language: str) -> str:
    """Images to look at, and links to all other files. `path` is where they are, without a slash at its end."""
    return f'<div class="mr-files">{"".join(_shown(file, path, language) for file in files)}</div>'


def chosen(
    files: Iterable[StoredFile], accepts: Iterable[str], many: bool, most: int, root: str, language: str
) -> str:
    """The button to add files, and those that were added; files.js does the rest with what is in the attributes."""
    rows = "".join(_chip(file, language) for file in files)
    add = escaped(said("Add files" if many else "Add a file", language))
    return (
        f'<button type="button" class="mr-attach" aria-label="{add}" title="{add}"></button>'
        f'<input type="file" hidden tabindex="-1" aria-hidden="true" accept="{escaped(",".join(accepts))}"'
        f"{' multiple' if many else ''}"
        f' data-root="{escaped(root)}" data-most="{most}" data-large="{escaped(_too_large(most, language))}"'
        f' data-sending="{escaped(said("sending", language))}"'
        f' data-failed="{escaped(said("The file could not be sent", language))}">'
        f'<ul class="mr-chosen" aria-label="{escaped(said("Files", language))}">{rows}</ul>'
    )


def _too_large(most: int, language: str) -> str:
    return said(f"NAME is too large: {size_of(most)} at most", language)


def _shown(file: StoredFile, path: str, language: str) -> str:
    name, address = escaped(file.name), escaped(f"{path}/{file.id}")
    if file.shows:
        return (
            f'<a class="mr-picture" href="{address}" target="_blank" rel="noopener">'
            f'<img src="{address}" alt="{name}"></a>'
        )
    return (
        f'<a class="mr-file" href="{address}" download="{name}">'
        f"<span>{name}</span> <small>{size_of(file.size)}</small></a>"
    )


def _chip(file: StoredFile, language: str) -> str:
    name = escaped(file.name)
    remove = escaped(said(f"Remove {file.name}", language))
    return (
        f"<li><span>{name}</span> <small>{size_of(file.size)}</small>"
        f'<button type="button" data-id="{file.id}" aria-label="{remove}">'
        '<span aria-hidden="true">×</span></button></li>'
    )
