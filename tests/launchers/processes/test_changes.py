"""Noticing changes of Python files."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from millrace.launchers.processes.changes import Changes, folder_of

pytestmark = pytest.mark.anyio


async def test_what_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("1")
    for folder in (".git", "__pycache__", "venv", "shop"):
        (tmp_path / folder).mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    changes = Changes(tmp_path)
    for folder in (".git", "__pycache__", "venv"):
        (tmp_path / folder / "any.py").touch()
    (tmp_path / "notes.md").touch()
    waiting = asyncio.ensure_future(changes.wait())
    done, _ = await asyncio.wait([waiting], timeout=1.2)
    assert not done
    (tmp_path / "shop" / "flows.py").touch()
    assert await asyncio.wait_for(waiting, 10) == [os.path.join("shop", "flows.py")]

    (tmp_path / "app.py").write_text("22")
    (tmp_path / "shop" / "flows.py").unlink()
    assert await asyncio.wait_for(changes.wait(), 10) == ["app.py", os.path.join("shop", "flows.py")]


def test_where_a_target_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").touch()
    (tmp_path / "shop").mkdir()
    assert folder_of("app:flow") == folder_of("shop.flows:flow") == tmp_path
    assert folder_of("no_such_module:flow") == folder_of("not a name") == folder_of("json:flow") == tmp_path
    assert (
        folder_of("millrace.launchers.demo:flow")
        == Path(sys.modules["millrace"].__file__ or "").resolve().parent
    )
