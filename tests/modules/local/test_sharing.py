from __future__ import annotations

from pathlib import Path

import pytest

from millrace.modules.local import KV, Engine, shared_engine
from millrace.streaming.errors import ModelError
from millrace.streaming.limits import Limits
from tests.support.gated import tiny_model, tiny_tokenizer


def test_the_same_weights_share_one_engine(tmp_path: Path) -> None:
    engine = shared_engine(tmp_path)
    assert shared_engine(str(tmp_path)) is engine
    assert shared_engine(tmp_path / "x" / "..") is engine or not (tmp_path / "x").exists()
    assert shared_engine(tmp_path, dtype="float32") is not engine
    assert shared_engine(tmp_path, device="cpu") is not engine


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kv": KV(block_size=32)}, ("block_size=16", "block_size=32")),
        ({"limits": Limits(running=2)}, ("running=16", "running=2")),
        ({"chat_template": "{{ 1 }}"}, ("None", "{{ 1 }}")),
    ],
)
def test_other_settings_are_refused_and_both_named(
    settings: dict[str, object], named: tuple[str, str], tmp_path: Path
) -> None:
    engine = shared_engine(tmp_path)
    with pytest.raises(ModelError) as error:
        shared_engine(tmp_path, **settings)  # type: ignore[arg-type]
    assert all(text in str(error.value) for text in (*named, str(tmp_path)))
    assert shared_engine(tmp_path) is engine


def test_an_engine_that_nobody_holds_is_forgotten(tmp_path: Path) -> None:
    first = shared_engine(tmp_path, limits=Limits(running=3))
    del first
    assert shared_engine(tmp_path).settings.limits == Limits()


def test_a_closed_engine_gives_way_to_other_settings() -> None:
    def load() -> object:
        return tiny_model(), tiny_tokenizer()

    engine = shared_engine(load)  # type: ignore[arg-type]
    engine.wait_ready(60)
    engine.close()
    assert shared_engine(load) is engine  # type: ignore[arg-type]
    assert shared_engine(load, limits=Limits(running=1)) is not engine  # type: ignore[arg-type]


def test_process_and_idle_are_not_changed_behind_anybodys_back(tmp_path: Path) -> None:
    first = shared_engine(tmp_path, idle=60.0)
    assert shared_engine(tmp_path) is first
    assert shared_engine(tmp_path, process=True) is first
    assert first.process is True
    with pytest.raises(ModelError, match=r"idle=60.0, not 5.0"):
        shared_engine(tmp_path, idle=5.0)


def test_settings_of_a_wrong_kind_are_refused() -> None:
    with pytest.raises(TypeError, match=r"limits=3.*give a Limits"):
        Engine("weights", limits=3)  # type: ignore[arg-type]
