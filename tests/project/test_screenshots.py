"""The pictures of docs/chat.md, made anew of the chat as it is; SCREENSHOTS names a folder to keep them in."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.screenshots import IMAGES, PICTURES
from tests.support.servers import ROOT


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(240)
def test_they_show_the_chat_as_it_is(tmp_path: Path) -> None:
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    subprocess.run(
        [sys.executable, "-m", "scripts.screenshots", str(folder)], cwd=ROOT, check=True, timeout=110
    )
    page = (IMAGES.parent / "chat.md").read_text(encoding="utf-8")
    for picture in PICTURES:
        assert f"images/{picture.name}" in page
        assert size_of(folder / picture.name) == size_of(IMAGES / picture.name)


def size_of(file: Path) -> tuple[int, int]:
    """Width and height of a PNG, in pixels."""
    head = file.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", head[16:24])
    return width, height
