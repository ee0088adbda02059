"""What the stores of a process share, also when it forks and when it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from millrace.streaming.errors import QueueError
from millrace.streaming.files import FileStore
from tests.streaming.files.support import read_what_is_there
from tests.support.leaks import eventually


def locks(root: Path | str) -> list[str]:
    return sorted(path.name for path in Path(root).glob("*.lock") if path.name != "sweep.lock")


def script(code: str, root: Path) -> str:
    """Runs code with a `store`; returns what it printed."""
    head = (
        "import os, sys\nfrom millrace.streaming.files import FileStore\nstore = FileStore.at(sys.argv[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + textwrap.dedent(code), str(root)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_stores_on_one_directory_share_a_lock(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    stores = [
        FileStore.at(tmp_path / "runs"),
        FileStore.at(f"{tmp_path}/runs/", ttl=5),
        FileStore.at(tmp_path / "link"),
    ]
    writers = [store.create(f"run-{i}", {}) for i, store in enumerate(stores)]
    assert len({stores[0].header(writer.run_id)["lock"] for writer in writers}) == 1
    assert len(locks(tmp_path / "runs")) == 1
    for writer in writers:
        writer.end(b"")


def test_the_lock_is_kept_from_one_run_to_the_next_and_then_given_back(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    for name in "abc":
        store.create(name, {}).end(b"")
    assert len({store.header(name)["lock"] for name in "abc"}) == 1
    eventually(lambda: not locks(tmp_path))
    assert not list(tmp_path.glob("*.mail"))
    eventually(lambda: not any(thread.name == "millrace-files" for thread in threading.enumerate()))
    store.create("d", {}).end(b"")
    assert store.header("d")["lock"] != store.header("a")["lock"]


def test_a_directory_that_was_made_anew_is_another_one(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    store = FileStore.at(root)
    root.rename(tmp_path / "moved")
    store.create("run", {}).end(b"1")
    FileStore.at(root).create("run", {}).end(b"2")
    assert FileStore.at(root).read("run").take() == [b"2"]
    assert store.read("run").take() == FileStore.at(tmp_path / "moved").read("run").take() == [b"1"]


def removed(path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def test_a_directory_may_be_removed_under_a_resting_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileStore.at(tmp_path / "runs", ttl=0.2)
    store.create("run", {}).end(b"")
    eventually(lambda: removed(tmp_path / "runs"))  # a sweep may add a file meanwhile
    with pytest.raises(QueueError, match="cannot be made"):
        store.create("another", {})
    eventually(lambda: not any(thread.name.startswith("millrace-files") for thread in threading.enumerate()))
    assert caplog.text == ""


def test_sweeps_come_by_themselves_while_runs_are_written(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path, ttl=0.4)
    store.create("first", {}).end(b"")
    writer = store.create("second", {})
    eventually(lambda: len(list(tmp_path.glob("*.run"))) == 1)
    assert [entry.run_id for entry in store.runs()] == ["second"]
    writer.end(b"")


def test_a_sweep_that_fails_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FileStore.at(tmp_path)
    (tmp_path / "sweep.lock").mkdir()
    writer = store.create("run", {})
    eventually(lambda: "no plain file" in caplog.text)
    writer.end(b"")


class TestForks:
    """Workers are to be spawned. One that was forked all the same does no harm."""

    def test_a_child_has_its_own_lock_and_leaves_the_parents_runs_alone(self, tmp_path: Path) -> None:
        out = script(
            """
            from millrace.streaming.errors import QueueError
            writer = store.create("parents", {})
            writer.append(b"1")
            child = os.fork()
            if child == 0:
                try:
                    writer.append(b"2")
                except QueueError as error:
                    print("refused:", error, flush=True)
                writer.abandon()
                own = store.create("childs", {})
                own.append(b"3")
                own.end(b"4")
                assert store.header("childs")["lock"] != store.header("parents")["lock"]
                assert store.entry("parents").state == "live"
                assert store.read("parents").take() == [b"1"]
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            assert store.entry("parents").state == "live"
            writer.end(b"5")
            print(store.read("parents").take(), store.read("childs").take())
            """,
            tmp_path,
        )
        refused, read = out.splitlines()
        assert "it belongs to the process that this one was forked from" in refused
        assert read == "[b'1', b'5'] [b'3', b'4']"

    def test_a_child_does_not_hide_the_death_of_its_parent(self, tmp_path: Path) -> None:
        code = """
            import signal, time
            writer = store.create("run", {})
            writer.append(b"1")
            if os.fork() == 0:
                print(os.getpid(), flush=True)
                os.close(1)
                os.close(2)
                time.sleep(60)
                os._exit(0)
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        """
        head = "import os, sys\nfrom millrace.streaming.files import FileStore\nstore = FileStore.at(sys.argv[1])\n"
        parent = subprocess.run(
            [sys.executable, "-c", head + textwrap.dedent(code), str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        child = int(parent.stdout)
        try:
            reader = FileStore.at(tmp_path).read("run")
            assert read_what_is_there(reader) == [b"1"]
            assert reader.lost
            os.kill(child, 0)  # it lives
        finally:
            os.kill(child, 9)


class TestExit:
    def test_locks_are_removed(self, tmp_path: Path) -> None:
        script("store.create('run', {}).end(b'')", tmp_path)
        assert locks(tmp_path) == []
        assert not list(tmp_path.glob("*.mail"))

    def test_a_run_that_is_still_open_is_lost_but_one_that_an_exit_hook_ends_is_not(
        self, tmp_path: Path
    ) -> None:
        script(
            """
            import atexit
            first = store.create("first", {})
            second = store.create("second", {})
            atexit.register(lambda: first.end(b"in time"))
            """,
            tmp_path,
        )
        store = FileStore.at(tmp_path)
        assert {entry.run_id: entry.state for entry in store.runs()} == {"first": "ended", "second": "lost"}


def test_a_child_process_inherits_no_descriptor(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    writer = store.create("run", {})
    reader = store.read("run")
    reader.watch(lambda: None)
    look = "import os; print([os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')])"
    child = subprocess.run([sys.executable, "-c", look], stdout=subprocess.PIPE, text=True, close_fds=False)
    assert "/" in child.stdout
    assert str(tmp_path) not in child.stdout
    assert "inotify" not in child.stdout
    reader.close()
    writer.end(b"")


def test_a_lock_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system answers on one: `flock` fails there, or does nothing."""
    import fcntl

    def fails(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    for flock, fault in ((fails, "No locks available"), (lambda *_: None, "can be taken again")):
        monkeypatch.setattr(fcntl, "flock", flock)
        with pytest.raises(QueueError, match=f"without working locks.*{fault}.*local disk"):
            FileStore.at(tmp_path).create("run", {})
        assert not list(tmp_path.glob("*.run"))
        assert locks(tmp_path) == []
