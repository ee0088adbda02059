"""Attaching to the runs of other processes, and others to ours: while they live, and when they are killed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millrace import Pipeline
from millrace.streaming import (
    FileQueue,
    RunFinished,
    TextDelta,
    WriterLost,
    attach,
)
from tests.streaming.children import child
from tests.streaming.parts import Gate, seen
from tests.support.leaks import eventually


class TestOtherProcesses:
    def test_a_run_of_another_process(self, tmp_path: Path) -> None:
        url = f"file://{tmp_path}/runs"
        with child("write", url, 3) as writer:
            run_id = writer.told()
            reader = attach(run_id, url)
            assert reader.info.writer == writer.process.pid != os.getpid()
            assert reader.status in ("queued", "running")
            for _ in range(3):
                writer.tell()
            assert list(reader.text()) == ["0 ", "1 ", "2 "]
            assert writer.told() == ["done", None]
        assert attach(run_id, url).info.status == "done"

    def test_another_process_reads_ours(self, tmp_path: Path) -> None:
        url, gate = f"file://{tmp_path}/runs", Gate()
        run = Pipeline(gate.pieces).start(5, queue=url)
        with child("follow", url, run.id, 2) as reader:
            told = []
            for _ in range(5):
                gate.let()
                told.append(reader.told())
            told += [reader.told(), reader.told()]
        assert [json.dumps(event) for event in told] == seen(run.events())[2:]

    def test_cancel_reaches_it(self, tmp_path: Path) -> None:
        url = f"file://{tmp_path}/runs"
        with child("write", url, 3) as writer:
            run_id = writer.told()
            reader = attach(run_id, url)
            writer.tell()
            assert next(reader.text()) == "0 "
            reader.cancel("from far away")
            assert writer.told() == ["cancelled", "from far away"]
            assert reader.info.reason == "from far away"

    @pytest.mark.anyio
    async def test_a_writer_that_dies(self, tmp_path: Path) -> None:
        url = f"file://{tmp_path}/runs"
        with child("write", url, 100) as writer:
            run_id = writer.told()
            reader = attach(run_id, url)
            for _ in range(10):
                writer.tell()
            pieces = []
            async for event in reader:
                if isinstance(event, TextDelta):
                    pieces.append(event.text)
                    if len(pieces) == 10:
                        break
            writer.process.kill()
            began = time.monotonic()
            last = await anext(reader)
            assert time.monotonic() - began < 3
        assert isinstance(last, RunFinished)
        assert (last.status, last.reason) == ("lost", "writer lost")
        assert "seq" not in last.as_dict()
        with pytest.raises(WriterLost, match="died"):
            await anext(reader)
        with pytest.raises(WriterLost):
            await anext(reader)
        again = attach(run_id, url)
        assert [event.text async for event in again_text(again)] == pieces
        with pytest.raises(WriterLost):
            attach(run_id, url).result(5)
        assert attach(run_id, url).status == "lost"
        assert [info.status for info in FileQueue(tmp_path / "runs").runs()] == ["lost"]

    @pytest.mark.slow
    def test_killed_at_random_moments(self, tmp_path: Path) -> None:
        """Readers that follow get every complete event and then the loss; so do those that come later."""
        url = f"file://{tmp_path}/runs"
        for i in range(8):
            with child("torrent", url) as writer:
                run_id = writer.told()
                reader, events = attach(run_id, url), []
                read = threading.Thread(target=collect, args=(reader, events))
                read.start()
                eventually(lambda: len(events) > 50 * i)  # noqa: B023
                writer.process.kill()
                read.join(10)
            assert not read.is_alive()
            assert isinstance(events[-1], WriterLost)
            assert [event.seq for event in events[:-2]] == list(range(1, len(events) - 1))
            assert all(len(event.text) == 100 for event in events[:-2] if isinstance(event, TextDelta))
            later: list[Any] = []
            collect(attach(run_id, url), later)
            assert seen(later[:-2]) == seen(events[:-2])
            assert later[-2].as_dict() == events[-2].as_dict()  # the end too is the same for all


def collect(reader: Any, into: list[Any]) -> None:
    try:
        into.extend(reader)
    except WriterLost as error:
        into.append(error)


async def again_text(reader: Any) -> AsyncIterator[TextDelta]:
    try:
        async for event in reader:
            if isinstance(event, TextDelta):
                yield event
    except WriterLost:
        pass
