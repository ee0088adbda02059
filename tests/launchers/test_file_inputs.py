"""Which files a flow takes, and how they are handed to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from PIL import Image

from millrace import Args, LocalModel, Message, Pipeline, step
from millrace.launchers.file_inputs import IMAGES, FileInput, FileRefused, intake_of
from millrace.streaming import NamedFile

PICTURE = NamedFile("a.png", b"")
PAPER = NamedFile("a.pdf", b"%PDF")


def plain(question: str) -> str:
    return question


def messages(messages: list[Message]) -> str:
    return ""


def path(path: Path) -> str:
    return ""


def content(content: bytes) -> str:
    return ""


def image(image: Image.Image) -> str:
    return ""


def both(question: str, image: Image.Image | None = None) -> str:
    return ""


def papers(question: str, papers: Annotated[list[Path], ".pdf", "text/*"], loud: bool = False) -> str:
    return ""


def named(files: list[NamedFile]) -> str:
    return ""


def either(x: str | Path) -> str:
    return ""


@pytest.mark.parametrize(
    ("function", "places"),
    [
        (plain, (None,)),
        (messages, (None,)),
        (either, (None,)),
        (path, (FileInput("path"),)),
        (content, (FileInput("bytes"),)),
        (image, (FileInput("image", IMAGES),)),
        (both, (None, FileInput("image", IMAGES, required=False))),
        (papers, (None, FileInput("path", (".pdf", "text/*"), many=True))),
        (named, (FileInput("named", many=True),)),
    ],
)
def test_the_annotations_say_what_is_taken(
    function: Callable[..., Any], places: tuple[FileInput | None, ...]
) -> None:
    assert intake_of(Pipeline(function, plain)).places == places


def test_a_model_takes_text() -> None:
    assert intake_of(LocalModel.demo()).files == ()


def test_which_files_fit() -> None:
    intake = intake_of(step(papers))
    assert intake.takes("A.PDF", "application/pdf")
    assert intake.takes("a.txt", "text/plain")
    assert not intake.takes("a.png", "image/png")
    assert (intake.most, intake.accepts, intake.required) == (10, (".pdf", "text/*"), True)
    assert intake_of(step(path)).accepts == ()


def test_the_value(tmp_path: Path) -> None:
    file = tmp_path / "x"
    Image.new("RGB", (3, 2)).save(file, "PNG")
    there = NamedFile("a.png", file)
    assert intake_of(step(plain)).value("hi", []) == "hi"
    assert intake_of(step(path)).value("", [there]) == file
    assert intake_of(step(content)).value("", [PAPER]) == b"%PDF"
    assert intake_of(step(named)).value("", [PAPER, there]) == [PAPER, there]
    assert intake_of(step(image)).value("", [there]).size == (3, 2)
    assert intake_of(step(both)).value("hi", []) == Args("hi", None)
    assert intake_of(step(papers)).value("hi", [NamedFile("a.pdf", file)]) == Args("hi", [file])


@pytest.mark.parametrize(
    ("function", "files", "why"),
    [
        (path, [], "A file is needed"),
        (path, [PAPER, PAPER], "not taken beside"),
        (image, [PICTURE], "a.png is no image that can be read"),
        (image, [PAPER], "A file is needed"),
    ],
)
def test_what_cannot_be_handed_over(function: Callable[..., Any], files: list[NamedFile], why: str) -> None:
    with pytest.raises(FileRefused, match=why):
        intake_of(step(function)).value("", files)
