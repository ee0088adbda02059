from __future__ import annotations

import io
import sys

import pytest
from PIL import Image

from millrace import Pipeline, step
from millrace.streaming import MissingExtra
from tests.flow.drawing.examples import EXAMPLES, clean, rag


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "wide"])
def test_a_png_of_each_example(name: str) -> None:
    image = Image.open(io.BytesIO(EXAMPLES[name].draw("png")))
    assert image.format == "PNG"
    assert image.width > 100
    colors = image.convert("RGB").getcolors(1 << 24)
    assert colors is not None
    assert len(colors) > 20  # something is painted, with smooth edges


def test_it_is_as_large_as_the_svg_twice() -> None:
    svg = rag().draw("svg")
    image = Image.open(io.BytesIO(rag().draw("png")))
    assert f'width="{image.width // 2}"' in svg
    assert f'height="{image.height // 2}"' in svg


@pytest.mark.slow
def test_a_very_large_flow_is_painted_smaller() -> None:
    flow = Pipeline(*[step(clean, name=f"s{i}") for i in range(1500)])
    image = Image.open(io.BytesIO(flow.draw("png")))
    assert image.width * image.height < 20_000_000


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(
        MissingExtra, match=r"PIL is not installed; install it with: pip install 'millrace\[draw\]'"
    ):
        rag().draw("png")
