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

from tests.launchers.support import Running, running
from tests.support.markdown import Block, blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "http.md"
BLOCKS = blocks(PAGE.read_text(encoding="utf-8"))
PLACE = "http://127.0.0.1:8000"


def flow_of_the_page() -> Any:
    namespace: dict[str, Any] = {}
    exec(next(block.text for block in BLOCKS if block.language == "python"), namespace)
    return namespace["shout"]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(flow_of_the_page()) as server:
        yield server


def asked() -> Iterator[tuple[Block, Block | None]]:
    """The blocks with curl, each with what the page says comes back."""
    for block, after in pairwise([*BLOCKS, Block("", "", 0, "")]):
        if block.language == "sh" and block.text.startswith("curl "):
            yield block, after if "<!-- output -->" in after.above else None


def test_every_endpoint_is_there(server: Running) -> None:
    text = PAGE.read_text(encoding="utf-8")
    paths = server.get("/openapi.json")[1]["paths"]
    for path in paths:
        place = re.escape(path).replace(r"\{run_id\}", "[0-9a-f]{32}").replace(r"\{name\}", "shout")
        assert re.search(rf"{re.escape(PLACE)}{place}(?![\w/])", text), path


def test_curl(server: Running) -> None:
    """In the order of the page, since later ones ask for what earlier ones have started."""
    assert shutil.which("curl"), "curl is not installed, and the page is about it"
    tried = 0
    for block, said in asked():
        refused = said is not None and '"error": {' in said.text
        options = "--silent --show-error --max-time 10" + ("" if refused else " --fail-with-body")
        script = block.text.replace("curl ", f"curl {options} ")
        done = subprocess.run(
            ["bash", "-euc", script.replace(PLACE, server.url)], capture_output=True, text=True, timeout=60
        )
        where = f"{PAGE.name}:{block.line}"
        assert done.returncode == 0, f"{where}: {done.stderr}"
        assert done.stdout, where
        if said is not None and said.language == "json":
            given, told = (json.dumps(json.loads(text)) for text in (done.stdout, said.text))
            assert masked(given) == masked(told), where
        elif said is not None:
            assert masked(done.stdout).strip() == masked(said.text).strip(), where
        tried += 1
    assert tried > 12


def masked(text: str) -> str:
    """Without what differs each time: ids and times."""
    text = re.sub(r'("(?:time|created|ended)": ?)[0-9.]+', r"\1TIME", text)
    return re.sub(r"\b(?:chatcmpl-)?s?[0-9a-f]{32}\b", "ID", text)
