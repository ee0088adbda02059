"""Queues by URL and by object; what is no queue is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from millrace import Pipeline
from millrace.streaming import FileQueue, MemoryQueue, QueueError, RunInfo, open_queue
from millrace.streaming.registries import MEMORY
from tests.streaming.parts import count


def test_memory() -> None:
    assert open_queue("memory://") is MEMORY
    assert open_queue("MEMORY://") is MEMORY


def test_an_object_stays_what_it_is(tmp_path: Path) -> None:
    for queue in (MemoryQueue(), FileQueue(tmp_path / "runs")):
        assert open_queue(queue) is queue


@pytest.mark.parametrize(
    ("query", "url"),
    [
        ("", ""),
        ("?ttl=1h", "?ttl=3600.0"),
        ("?ttl=90&max_bytes=1g", "?ttl=90.0&max_bytes=1073741824"),
        ("?sync=always", "?sync=always"),
        ("?sync=none", ""),
    ],
)
def test_files(tmp_path: Path, query: str, url: str) -> None:
    queue = open_queue(f"file://{tmp_path}/runs{query}")
    assert isinstance(queue, FileQueue)
    assert queue.path == str(tmp_path / "runs")
    assert queue.url == f"file://{tmp_path}/runs{url}"
    assert open_queue(queue.url).url == queue.url
    assert not (tmp_path / "runs").exists()


def test_a_path_with_odd_characters(tmp_path: Path) -> None:
    queue = FileQueue(tmp_path / "a b#c?d%é")
    twin = open_queue(queue.url)
    assert isinstance(twin, FileQueue)
    assert twin.path == queue.path
    run = Pipeline(count).start(2, queue=twin)
    assert run.result(5) == "0 1 "
    assert [info.id for info in queue.runs()] == [run.id]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nothing", "names no queue: write memory://"),
        ("", "names no queue"),
        ("memory:", "names no queue"),
        ("memory://there", "nothing stands behind memory://"),
        ("redis://host/0", "not there yet"),
        ("http://host/0", "names no queue"),
        ("/var/lib/runs", "write file:// and the absolute path"),
        ("file:relative", "write file:// and the absolute path"),
        ("file://var/lib/runs", "three slashes"),
        ("file://", "three slashes"),
        ("file:///runs?tll=1h", "unknown setting 'tll'; did you mean ttl?"),
        ("file:///runs?colour=red", "there are ttl, max_bytes, sync"),
        ("file:///runs?ttl=soon", "ttl: 'soon' is not a time"),
        ("file:///runs?ttl=0", "above 0"),
        ("file:///runs?ttl=", "is not a time"),
        ("file:///runs?ttl=1h&ttl=2h", "ttl is there twice"),
        ("file:///runs?max_bytes=big", "is not a size"),
        ("file:///runs?sync=often", "there are 'none' and 'always'"),
        ("file:///runs#part", "written %23"),
        ("file:///ru%00ns", "from the root on"),
    ],
)
def test_urls_that_say_nothing_known(url: str, says: str) -> None:
    with pytest.raises(QueueError) as caught:
        Pipeline(count).stream(1, queue=url)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"ttl": 0},
        {"ttl": float("inf")},
        {"ttl": "1h"},
        {"max_bytes": 0},
        {"max_bytes": "1g"},
        {"sync": "often"},
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(QueueError, match=next(iter(settings))):
        FileQueue(tmp_path, **settings)


def test_paths_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(QueueError, match="from the root on"):
        FileQueue("relative")
    with pytest.raises(QueueError, match="write its URL: file:///the/directory"):
        Pipeline(count).start(1, queue=tmp_path)  # type: ignore[arg-type]


def test_objects_that_are_none() -> None:
    with pytest.raises(QueueError, match=r"queue=7 is no queue: it lacks open_log, read"):
        Pipeline(count)(1, queue=7)  # type: ignore[arg-type]


def test_what_is_known_of_a_run_is_json() -> None:
    info = RunInfo("a", "done", 1.5, events=3)
    assert info.over
    assert info.as_dict() == {
        "id": "a",
        "status": "done",
        "created": 1.5,
        "session": None,
        "name": None,
        "events": 3,
        "size": None,
        "ended": None,
        "reason": None,
        "error": None,
        "usage": {"prompt_tokens": 0, "completion_tokens": 0},
        "writer": None,
        "owner": None,
    }
    assert not RunInfo("a", "waiting", 1.5).over
