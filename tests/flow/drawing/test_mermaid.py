from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from millrace import Loop, Pipeline, Step, Switch, step
from tests.flow.drawing.examples import EXAMPLES, FLOWS, clean, dotted, is_short, rag, shout
from tests.support.browser import browser, visit

__all__ = ["browser", "visit"]

HOSTILE = [
    'say "hi" [now] (and) {then} |or|',
    "<b>never</b> & #35; ; `code`",
    "`code`",
    "%%{init: {'theme': 'dark'}}%%",
    "end",
    "subgraph x",
    "style n1 fill:#f9f;",
    "--> n1",
    "---\ntitle: x\n---",
    "検索 🙂 ünïcode",
    "\\",
    "click n1 callback",
    "1. first",
    "- item",
    "__init__",
    "*star*",
    "$$x^2$$",
    "snake_case_name",
    "a.b[0]['c'] = {1, 2}?",
]


def test_a_rag_flow() -> None:
    assert rag().draw() == (
        "---\n"
        'title: "rag"\n'
        "---\n"
        "flowchart TB\n"
        '    n1(["input"])\n'
        '    n2["clean"]\n'
        '    subgraph g3["notes"]\n'
        '        n4["bm25<br/>keyword_search"]\n'
        '        n5["dense<br/>vector_search"]\n'
        "    end\n"
        '    n6["prompt<br/>make_prompt<br/>question=rag.input<br/>'
        "notes=rag.notes['bm25']\"]\n"
        '    n7["llm<br/>LocalModel"]\n'
        '    n8(["output"])\n'
        "    n1 --> n2\n"
        "    n2 --> n4\n"
        "    n2 --> n5\n"
        "    n4 --> n6\n"
        "    n5 --> n6\n"
        "    n6 --> n7\n"
        "    n7 --> n8\n"
        "    classDef module stroke:#5f3dc4,stroke-width:2px\n"
        "    classDef group fill:none,stroke-dasharray:4 4\n"
        "    class g3 group\n"
        "    class n7 module\n"
    )


def test_words_on_edges() -> None:
    text = Pipeline(shout, dotted, Switch({is_short: clean, "a|b": shout})).draw()
    assert 'n2 ==>|"live"| n3' in text
    assert 'n4 -->|"is_short"| n5' in text
    assert 'n4 -->|"a|b"| n6' in text
    assert "n2 -.->|again| n2" in Loop(clean, count=2).draw().replace("g1", "").replace("n3", "n2")


# ---------------------------------------------------------------- the real Mermaid, as it comes with gradio


@pytest.fixture(scope="module")
def mermaid_url() -> Iterator[str]:
    """Where a page finds Mermaid's own script."""
    import gradio

    assets = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
    (script,) = assets.glob("mermaid.core-*.js")
    handler = functools.partial(Quiet, directory=str(assets))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{script.name}"
        server.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder to any page, and says nothing about it."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, *_: Any) -> None: ...


RENDER = r"""async ([url, text]) => {
    const {default: mermaid} = await import(url);
    mermaid.initialize({startOnLoad: false});
    const {svg} = await mermaid.render("drawing", text);
    const element = document.createElement("div");
    element.innerHTML = svg.replace(/<style>[^]*<\/style>/, "");
    return element.textContent;
}"""


@pytest.fixture(scope="module")
def render(browser: Any, mermaid_url: str) -> Iterator[Any]:
    """What Mermaid shows of a text; raises where it is no valid diagram."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(mermaid_url.rpartition("/")[0] + "/")
    yield lambda text: page.evaluate(RENDER, [mermaid_url, text])
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize("name", EXAMPLES)
def test_mermaid_takes_the_examples(name: str, render: Any) -> None:
    shown = render(EXAMPLES[name].draw())
    assert "input" in shown
    assert "output" in shown


@pytest.mark.browser
@pytest.mark.parametrize("name", HOSTILE)
def test_mermaid_shows_names_as_they_are(name: str, render: Any) -> None:
    shown = render(Pipeline(step(clean, name=name), Switch({name: clean}), name=name).draw())
    plain, seen = "".join(name.split()), "".join(shown.split())
    assert seen.count(plain) >= 2  # the step and the case; the heading goes other ways


@pytest.mark.browser
@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flow=FLOWS)
def test_mermaid_takes_random_flows(flow: Step[Any, Any], render: Any) -> None:
    assert "output" in render(flow.draw())
