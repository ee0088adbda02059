"""What files a flow takes, read from the annotations of its first step, and how they are handed to it."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from ..flow.args import Args
from ..flow.functions import FunctionStep
from ..flow.kinds import signed
from ..flow.steps import Step
from ..streaming.errors import FlowCallError, require
from ..streaming.named_files import NamedFile
from .inputs import first_of

__all__ = ["MAX_UPLOAD", "FileInput", "FileRefused", "Intake", "intake_of"]

Form = Literal["path", "bytes", "named", "image"]

IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif")
"""What an image may be; formats that can run something are not among them."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MAX_UPLOAD = 10 * 2**20
"""Bytes of a file that goes with a question, where nobody says otherwise."""

MOST_PIXELS = 64_000_000
SEVERAL = 10
"""How many files a list may have."""


class FileRefused(FlowCallError):
    """A file that cannot be had or is not taken; says why, for whoever gave it."""


@dataclass(frozen=True, slots=True)
class FileInput:
    """One parameter that takes files: in which `form`, which of them (`accepts`), one or `many`, if it must."""

    form: Form
    accepts: tuple[str, ...] = ()
    many: bool = False
    required: bool = True

    @property
    def most(self) -> int:
        return SEVERAL if self.many else 1

    def takes(self, name: str, type: str) -> bool:
        """Whether a file may be one: by its media type, as `image/*` says it, or by the ending of its name."""
        return not self.accepts or any(_fits(pattern, name, type) for pattern in self.accepts)


class Intake:
    """The files that a flow takes beside the text, or in place of it.

    `places` has what each of its parameters is given: None for the text.
    """

    def __init__(self, places: Sequence[FileInput | None] = (None,), alone: bool = True) -> None:
        self.places = tuple(places)
        self.files = tuple(place for place in places if place is not None)
        self.text = None in self.places
        self._alone = alone

    @property
    def most(self) -> int:
        """How many files at once."""
        return sum(place.most for place in self.files)

    @property
    def accepts(self) -> tuple[str, ...]:
        """Types and endings that may be chosen; empty: all."""
        if any(not place.accepts for place in self.files):
            return ()
        return tuple(dict.fromkeys(pattern for place in self.files for pattern in place.accepts))

    def takes(self, name: str, type: str) -> bool:
        return any(place.takes(name, type) for place in self.files)

    @property
    def required(self) -> bool:
        """Whether there has to be a file."""
        return any(place.required for place in self.files)

    def value(self, text: Any, files: Sequence[NamedFile]) -> Any:
        """What the flow is called with. It reads images, which takes a while.

        Raises:
            FileRefused: a file is missing or too many, or an image cannot be read.
        """
        if not self.files:
            return text
        left = list(files)
        given = [text if place is None else _taken(place, left) for place in self.places]
        if left:
            raise FileRefused(f"{left[0].name} is not taken beside the other files; leave it out")
        return given[0] if self._alone else Args(*given)


def intake_of(flow: Step[Any, Any]) -> Intake:
    """What a flow takes. Files are parameters that are annotated `Path`, `bytes`, `NamedFile` or `PIL.Image.Image`, or
    a list of one of them; `Annotated[Path, ".pdf", "image/*"]` says which. Anything else is text.
    """
    first = first_of(flow)
    if not isinstance(first, FunctionStep) or first.resolve is not None:
        return Intake()
    try:
        parameters = inspect.signature(signed(first.function), eval_str=True).parameters.values()
    except Exception:
        return Intake()
    places = [
        _file_input(parameter.annotation, parameter.default is parameter.empty)
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if not any(places):
        return Intake()
    while places[-1] is None and None in places[:-1]:
        places.pop()  # the text is given once; what comes behind has a default
    return Intake(places, alone=len(places) == 1)


# ---------------------------------------------------------------- annotations


def _file_input(hint: Any, required: bool) -> FileInput | None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType) and types.NoneType in arguments:
        others = [argument for argument in arguments if argument is not types.NoneType]
        return _file_input(others[0], False) if len(others) == 1 else None
    if origin is Annotated:
        found = _file_input(arguments[0], required)
        accepts = tuple(said for said in arguments[1:] if isinstance(said, str))
        if found is None or not accepts:
            return found
        return FileInput(found.form, accepts, found.many, found.required)
    if origin in (list, Sequence) and arguments:
        found = _file_input(arguments[0], required)
        return None if found is None else FileInput(found.form, found.accepts, True, found.required)
    form = _form(hint)
    return None if form is None else FileInput(form, IMAGES if form == "image" else (), False, required)


def _form(hint: Any) -> Form | None:
    if hint is Path:
        return "path"
    if hint is bytes:
        return "bytes"
    if hint is NamedFile:
        return "named"
    module, name = getattr(hint, "__module__", ""), getattr(hint, "__name__", "")
    return "image" if (module, name) == ("PIL.Image", "Image") else None


def _fits(pattern: str, name: str, type: str) -> bool:
    if pattern.startswith("."):
        return name.lower().endswith(pattern.lower())
    return type.startswith(pattern[:-1]) if pattern.endswith("/*") else type == pattern


# ---------------------------------------------------------------- values


def _taken(place: FileInput, left: list[NamedFile]) -> Any:
    """What one parameter gets; the files that it takes are no longer left."""
    fitting = [file for file in left if place.takes(file.name, file.type)][: place.most]
    for file in fitting:
        left.remove(file)
    if not fitting and place.required:
        raise FileRefused("A file is needed; add one")
    values = [_value(place.form, file) for file in fitting]
    if place.many:
        return values
    return values[0] if values else None


def _value(form: Form, file: NamedFile) -> Any:
    if form == "named":
        return file
    if form == "bytes":
        return file.read_bytes()
    if form == "path":
        return file.content
    return _image(file)


def _image(file: NamedFile) -> Any:
    require("PIL", "draw")
    from PIL import Image, ImageOps

    try:
        source = BytesIO(file.content) if isinstance(file.content, bytes) else file.content
        with Image.open(source, formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError(f"it has more than {MOST_PIXELS // 1_000_000} million pixels")
            return ImageOps.exif_transpose(opened.copy())
    except Exception:
        raise FileRefused(f"{file.name} is no image that can be read") from None
