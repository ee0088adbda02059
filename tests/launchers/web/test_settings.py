"""A conversation's settings, and that its runs have them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from millrace import Limits, LocalModel, Pipeline
from millrace.launchers.admission import Admission
from millrace.launchers.web.archives import FileArchives
from millrace.launchers.web.identities import Identity
from millrace.launchers.web.settings import UNSAID, Settings
from millrace.launchers.web.tabs import Tab, Tabs
from tests.support.saying import saying


def test_from_anything() -> None:
    assert Settings.of({}) == UNSAID
    assert Settings.of(
        {"system": " Be brief. ", "temperature": 9, "top_p": -1, "max_tokens": 2.6, "seed": 7.0}
    ) == (Settings("Be brief.", 2.0, 0.01, 3, 7))
    odd = {"system": 5, "temperature": "hot", "top_p": float("nan"), "max_tokens": True, "seed": [1], "x": 1}
    assert Settings.of(odd) == UNSAID
    assert UNSAID.as_dict() == UNSAID.sampling() == {}
    assert Settings(temperature=0.0, seed=1).sampling() == {"temperature": 0.0, "seed": 1}


async def ask(tabs: Tabs, tab: Tab) -> tuple[int, int]:
    async for _ in tabs.ask(tab, "wheat"):
        pass
    usage = tab.turns[-1].usage
    return usage.prompt_tokens, usage.completion_tokens


@pytest.mark.slow
def test_runs_have_them_and_they_are_kept(tmp_path: Path) -> None:
    model = LocalModel(saying("corn bread corn bread corn bread"), name="model")
    somebody = Identity.of_browser("cookie", "somebody")

    async def main() -> None:
        tabs = Tabs(model, Admission(Limits()), archives=FileArchives(tmp_path / "chats"))
        assert tabs.adjustable
        tab = tabs.open("one", somebody)
        plain = await ask(tabs, tab)
        tab.begin()
        tab.conversation.settings = Settings("bread and corn", max_tokens=2)
        prompt, answer = await ask(tabs, tab)
        assert prompt > plain[0]
        assert answer == 2 < plain[1]
        assert [message.role for message in tab.history()] == ["user", "assistant"]
        again = Tabs(model, Admission(Limits()), archives=FileArchives(tmp_path / "chats")).open(
            "two", somebody
        )
        again.show(tab.conversation.id)
        assert again.conversation.settings == Settings("bread and corn", max_tokens=2)
        assert len(again.turns) == 1
        await model.release()

    asyncio.run(main())


def test_only_where_a_model_gives_the_answer() -> None:
    model = LocalModel.demo()
    assert not Tabs(Pipeline(model, str.upper), Admission(Limits())).adjustable
    assert Tabs(Pipeline(str.upper, model), Admission(Limits())).adjustable
