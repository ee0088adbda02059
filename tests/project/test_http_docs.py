"""The curl lines of docs/http.md, sent to a service of the page's own flow: each is answered, as the page says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from millrace import LocalEmbedding
from millrace.modules.embeddings import EmbeddingEngine
from tests.launchers.support import Running, running
from tests.support.encoders import tiny_encoder
from tests.support.markdown import Block, blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "http.md"
BLOCKS = blocks(PAGE.read_text(encoding="utf-8"))
PLACE = "http://127.0.0.1:8000"

pytestmark = pytest.mark.slow


def flow_of_the_page() -> Any:
    namespace: dict[str, Any] = {}
    exec(next(block.text for block in BLOCKS if block.language == "python"), namespace)
    return namespace["shout"]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(flow_of_the_page()) as server:
        yield server


@pytest.fixture(scope="module")
def embedder() -> Iterator[Running]:
    engine = EmbeddingEngine(tiny_encoder)
    with running(LocalEmbedding(engine, name="minilm")) as server:
        yield server
    engine.close()


def asked() -> Iterator[tuple[Block, Block | None]]:
    """The blocks with curl, each with what the page says comes back."""
    for block, after in pairwise([*BLOCKS, Block("", "", 0, "")]):
        if block.language == "sh" and block.text.startswith("curl "):
            yield block, after if "<!-- output -->" in after.above else None


def test_every_endpoint_is_there(server: Running, embedder: Running) -> None:
    text = PAGE.read_text(encoding="utf-8")
    paths = {path for one in (server, embedder) for path in one.get("/openapi.json")[1]["paths"]}
    assert len(paths) > 14
    for path in paths:
        place = re.sub(r"\\\{\w+\\\}", r"\\w+", re.escape(path))
        assert re.search(rf"{re.escape(PLACE)}{place}(?![\w/])", text), path


def test_curl(server: Running, embedder: Running) -> None:
    """In the order of the page, since later ones ask for what earlier ones have started."""
    assert shutil.which("curl"), "curl is not installed, and the page is about it"
    tried = 0
    for block, said in asked():
        refused = said is not None and '"error": {' in said.text
        options = "--silent --show-error --max-time 10" + ("" if refused else " --fail-with-body")
        script = block.text.replace("curl ", f"curl {options} ")
        url = (embedder if "/v1/embeddings" in script else server).url
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace(PLACE, url)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        where = f"{PAGE.name}:{block.line}"
        assert done.returncode == 0, f"{where}: {done.stderr}"
        assert done.stdout, where
        if said is not None and said.language == "json":
            told = json.loads(said.text)
            given = shortened(json.loads(done.stdout), told)
            assert masked(json.dumps(given, sort_keys=True)) == masked(json.dumps(told, sort_keys=True)), (
                where
            )
        elif said is not None:
            assert masked(done.stdout).strip() == masked(said.text).strip(), where
        tried += 1
    assert tried > 12


def shortened(given: Any, told: Any) -> Any:
    """An answer without the fields that the page leaves out, where it says so by "...", and with the page's vectors."""
    if isinstance(told, dict) and isinstance(given, dict):
        known = {name: shortened(given[name], told[name]) for name in told if name in given}
        return {**({"...": told["..."]} if "..." in told else given), **known}
    if isinstance(told, list) and isinstance(given, list):
        if told and all(isinstance(number, float) for number in [*given, *told]):
            return told
        return [*map(shortened, given, told), *given[len(told) :]]
    return given


def masked(text: str) -> str:
    """Without what differs each time: ids, times, and tokens."""
    text = re.sub(r'("(?:time|created|ended|prompt_tokens|total_tokens)": ?)[0-9.]+', r"\1SOME", text)
    return re.sub(r"\b(?:chatcmpl-)?s?[0-9a-f]{32}\b", "ID", text)
