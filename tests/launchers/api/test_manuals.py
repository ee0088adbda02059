"""The page at /docs, as a browser shows it: the form of a run can be filled in and sent, and nobody else is asked."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field

from millrace import Service
from tests.launchers.support import Running, echo, running
from tests.support.browser import Visit
from tests.support.servers import serving

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

KEY = "sk-one"
TIMEOUT = 10_000


class Question(BaseModel):
    """What is asked."""

    text: str = Field(examples=["What is a Warp?"])
    hits: int = Field(3, ge=1)


async def answer(question: Question) -> str:
    return f"{question.hits} of {question.text}"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(answer, title="Answers <b>") as server:
        yield server


class TestFiles:
    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/docs", "text/html; charset=utf-8"),
            ("/docs/manual.js", "text/javascript; charset=utf-8"),
            ("/docs/manual.css", "text/css; charset=utf-8"),
            ("/docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
            ("/docs/swagger-ui.css", "text/css; charset=utf-8"),
            ("/docs/favicon-32x32.png", "image/png"),
        ],
    )
    def test_each_has_its_kind_and_may_do_nothing_else(self, server: Running, path: str, kind: str) -> None:
        with server.connect() as connection:
            connection.send("GET", path)
            reply = connection.reply()
            assert (reply.status, reply.headers["content-type"]) == (200, kind)
            assert reply.headers["x-content-type-options"] == "nosniff"
            policy = reply.headers["content-security-policy"].split("; ")
            assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'"} <= set(policy)
            assert connection.read()

    @pytest.mark.parametrize("name", ["__init__.py", "manuals.py", "..%2fmanuals.py", "", "manual.html"])
    def test_nothing_else_is_given_out(self, server: Running, name: str) -> None:
        assert server.get(f"/docs/{name}")[0] == 404

    def test_the_page_names_no_other_host_and_shows_its_title_as_text(self, server: Running) -> None:
        with server.connect() as connection:
            connection.send("GET", "/docs")
            connection.reply()
            page = connection.read().decode()
        assert "<title>Answers &lt;b&gt;: the API</title>" in page
        assert "://" not in page

    def test_it_is_behind_the_keys(self) -> None:
        password = base64.b64encode(f"me:{KEY}".encode()).decode()
        with running(echo, api_keys=[KEY]) as server:
            for path in ("/docs", "/docs/swagger-ui.css", "/docs/manual.js"):
                with server.connect() as connection:
                    connection.send("GET", path)
                    reply = connection.reply()
                    assert (reply.status, reply.headers["www-authenticate"]) == (
                        401,
                        'Basic realm="millrace"',
                    )
                with server.connect() as connection:
                    connection.send("GET", path, headers={"Authorization": f"Basic {password}"})
                    assert connection.reply().status == 200


class Manual:
    """The page, once it has been drawn."""

    def __init__(self, visit: Visit, url: str) -> None:
        self.visit = visit
        self.page: Page = visit.page
        self.page.set_default_timeout(TIMEOUT)
        self.page.goto(f"{url}/docs")
        self.page.get_by_text("Runs the flow", exact=True).wait_for()

    def open(self, operation: str) -> Locator:
        """The form of one operation."""
        form = self.page.locator(f"[id$=-{operation}]")
        form.locator(".opblock-summary-control").click()
        form.get_by_role("button", name="Execute").wait_for()
        return form

    def execute(self, form: Locator, status: int) -> str:
        """Sends it, and reads what has come back."""
        form.get_by_role("button", name="Execute").click()
        shown = form.locator(".live-responses-table .response")
        shown.locator(".response-col_status", has_text=str(status)).wait_for()
        return shown.locator(".highlight-code code").first.inner_text()


@pytest.mark.browser
class TestInABrowser:
    def test_the_form_of_a_run(self, server: Running, visit: Visit) -> None:
        manual = Manual(visit, server.url)
        form = manual.open("create_run")
        box = form.locator("textarea")
        assert json.loads(box.input_value()) == {"input": {"text": "What is a Warp?", "hits": 3}}
        assert json.loads(manual.execute(form, 200))["result"] == "3 of What is a Warp?"
        box.fill('{"input": {"text": "wheels", "hits": "many"}}')
        assert "input.hits" in manual.execute(form, 422)
        assert visit.foreign_requests == []
        assert [error for error in visit.console_errors if "422" not in error] == []

    def test_its_stream_and_what_follows(self, server: Running, visit: Visit) -> None:
        manual = Manual(visit, server.url)
        form = manual.open("create_run")
        form.locator(".examples-select-element").first.select_option("stream")
        assert "event: run_finished" in manual.execute(form, 200)
        form = manual.open("list_runs")
        run_id = json.loads(manual.execute(form, 200))["data"][0]["id"]
        form = manual.open("follow_run")
        form.get_by_placeholder("run_id").fill(run_id)
        assert "event: run_finished" in manual.execute(form, 200)
        visit.check()

    def test_a_key_is_asked_for_once_for_the_page_and_once_for_the_api(self, visit: Visit) -> None:
        with running(answer, api_keys=[KEY]) as server:
            address = server.url.removeprefix("http://")
            manual = Manual(visit, f"http://me:{KEY}@{address}")
            form = manual.open("create_run")
            assert "invalid_api_key" in manual.execute(form, 401)
            visit.page.get_by_role("button", name="Authorize").first.click()
            dialog = visit.page.locator(".modal-ux")
            dialog.get_by_label("auth-bearer-value").fill(KEY)
            dialog.get_by_role("button", name="Apply credentials").first.click()
            dialog.get_by_role("button", name="Close").last.click()
            assert json.loads(manual.execute(form, 200))["result"] == "3 of What is a Warp?"
        assert visit.foreign_requests == []
        assert [error for error in visit.console_errors if "401" not in error] == []

    def test_mounted_in_another_application(self, visit: Visit) -> None:
        outer = FastAPI()
        outer.mount("/flows", Service(answer).app)
        with serving(outer) as served:
            manual = Manual(visit, f"{served.url}/flows")
            shown = manual.execute(manual.open("create_run"), 200)
        assert json.loads(shown)["result"] == "3 of What is a Warp?"
        visit.check()

    @pytest.mark.slow
    def test_beside_the_chat(self, visit: Visit) -> None:
        with running(echo, chat=True) as server:
            manual = Manual(visit, server.url)
            assert json.loads(manual.execute(manual.open("create_run"), 200))["result"] == "text"
        visit.check()
