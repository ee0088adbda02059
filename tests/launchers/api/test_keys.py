"""API keys: how they are written, where they come from, and that nobody sees one."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import MillraceError, Service
from millrace.launchers.api.key_lines import parse_lines
from millrace.launchers.api.keys import AGAIN, Keys, new_key
from millrace.launchers.owners import Owner
from millrace.launchers.quotas import Quota
from tests.launchers.support import PATH, echo, question, running
from tests.support.leaks import eventually
from tests.support.servers import millrace_process

SECRET = "sk-do-not-show-me-0123456789"
DIGEST = sha256(SECRET.encode()).hexdigest()
WELL = "alice: sk-a\n"


def key(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


class TestLines:
    @pytest.mark.parametrize(
        ("line", "name", "quota"),
        [
            (SECRET, f"key-{DIGEST[:6]}", Quota()),
            (f"alice: {SECRET}", "alice", Quota()),
            (f"  a.b@example.com:\t{SECRET}  # hers", "a.b@example.com", Quota()),
            (f"alice: sha256:{DIGEST}", "alice", Quota()),
            (f"SHA256:{DIGEST.upper()}", f"key-{DIGEST[:6]}", Quota()),
            (f"{SECRET} running=2", f"key-{DIGEST[:6]}", Quota(running=2)),
            (
                f"alice: {SECRET} tokens=1m/day requests=100/min running=2",
                "alice",
                Quota(running=2, requests="100/min", tokens="1m/day"),
            ),
        ],
    )
    def test_ways_to_write_one(self, line: str, name: str, quota: Quota) -> None:
        assert parse_lines([line], "keys.txt, line") == {bytes.fromhex(DIGEST): Owner(name, quota)}
        assert Keys([line]).owner(SECRET.encode()) == Owner(name, quota)

    def test_who_sees_the_figures_of_all(self) -> None:
        lines = [f"alice: {SECRET}", f"alice: {SECRET}2 figures=all", f"bob: {SECRET}3"]
        assert {owner.name: owner.sees_all for owner in parse_lines(lines, "").values()} == {
            "alice": True,
            "bob": False,
        }

    def test_one_that_can_be_guessed_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        parse_lines([f"alice: {SECRET}", "bob: hunter2", f"sha256:{DIGEST[::-1]}"], "keys.txt, line")
        (told,) = [record.getMessage() for record in caplog.records]
        assert told.startswith("keys.txt, line 2: this key has fewer than 16 characters")
        assert "hunter2" not in told

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            (f"alice {SECRET}", "after the key only running=, requests=, tokens= and figures= may stand"),
            (f"alice:{SECRET}", "there is no colon in a key; after a name stand a colon and a space"),
            ("alice:", "there is no key"),
            ("alice: running=2", "there is no key"),
            (f"{SECRET}: {SECRET} {SECRET}", "after the key only"),
            (f"al/ice: {SECRET}", "before the colon stands a name"),
            (f"{'a' * 65}: {SECRET}", "before the colon stands a name"),
            (f": {SECRET}", "before the colon stands a name"),
            (f"sha256:{DIGEST[:-1]}", "after sha256: stand the 64 hex digits"),
            (f"{SECRET}ä", "a key is of visible ASCII characters"),
            (f"{SECRET} running=0", "after running= stands a number above 0"),
            (f"{SECRET} running={SECRET}", "after running= stands a number above 0"),
            (f"{SECRET} running=2 running=2", "running= stands there twice"),
            (f"{SECRET} figures=own", "after figures= stands all, as in figures=all"),
            (f"{SECRET} requests=100", "after requests= stands a rate, as in requests=100/min"),
            (f"{SECRET} tokens={SECRET}", "after tokens= stands a rate, as in tokens=1m/day"),
            (f"bob: {SECRET}2", "this key is in a line above already, under another name"),
            (f"alice: {SECRET} running=2", "running= is not what line 2 says for the same name"),
        ],
    )
    def test_what_cannot_be_is_told_with_its_line_and_nothing_of_it(self, line: str, told: str) -> None:
        lines = ["# ours", "alice: sk-a running=1", f"carol: {SECRET}2", line]
        with pytest.raises(MillraceError, match=re.escape(f"keys.txt, line 4: {told}")) as refused:
            parse_lines(lines, "keys.txt, line")
        everything = "".join(map(str, (refused.value, refused.value.__cause__)))
        assert SECRET not in everything
        assert DIGEST[:12] not in everything

    def test_keys_of_one_name_are_one_owner_with_what_all_say(self) -> None:
        keys = Keys(
            ["alice: sk-1 running=2", "alice: sk-2 requests=5/s", "alice: sk-3 running=2", "bob: sk-4"]
        )
        owners = [keys.owner(text) for text in (b"sk-1", b"sk-2", b"sk-3")]
        assert owners == [Owner("alice", Quota(running=2, requests="5/s"))] * 3
        assert keys.owner(b"sk-4") == Owner("bob")

    @pytest.mark.parametrize("lines", [[], [""], ["# none yet", "  ", " # none"]])
    def test_no_key_at_all(self, lines: list[str]) -> None:
        with pytest.raises(MillraceError, match=r"keys.txt must have at least one key"):
            parse_lines(lines, "keys.txt, line")

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":#="), min_size=1))
    def test_any_visible_text_without_a_colon_is_a_key(self, text: str) -> None:
        assert Keys([f"alice: {text}"]).owner(text.encode()) == Owner("alice")


class TestSources:
    def test_a_file(self, tmp_path: Path) -> None:
        path = written(tmp_path, "# ours\n\n sk-a \nbob: sk-b running=2\r\n")
        for source in (path, str(path)):
            keys = Keys(source)
            assert b"sk-a" in keys
            assert keys.owner(b"sk-b") == Owner("bob", Quota(running=2))
            for other in (b"# ours", b"", b"bob:", b"sk-b running=2"):
                assert other not in keys

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(MillraceError, match=r"cannot read the API keys in .*keys.txt: No such file"):
            Service(echo, api_keys=tmp_path / "keys.txt")
        with pytest.raises(MillraceError, match=r"cannot read the API keys in .*: Is a directory"):
            Service(echo, api_keys=str(tmp_path))
        (tmp_path / "keys.bin").write_bytes(b"sk-\xff\n")
        with pytest.raises(MillraceError, match=r"keys.bin is no text in UTF-8"):
            Service(echo, api_keys=tmp_path / "keys.bin")

    def test_a_key_in_the_place_of_a_file_is_not_shown(self) -> None:
        with pytest.raises(MillraceError, match=r"no such file of API keys.*env:NAME") as refused:
            Service(echo, api_keys=SECRET)
        assert SECRET not in str(refused.value)

    def test_a_line_of_the_file_is_named(self, tmp_path: Path) -> None:
        path = written(tmp_path, f"alice: sk-a\nbob {SECRET}\n")
        with pytest.raises(MillraceError, match=r"keys.txt, line 2: after the key") as refused:
            Service(echo, api_keys=path)
        assert SECRET not in str(refused.value)

    @pytest.mark.parametrize(
        "text", ["alice: sk-a,bob: sk-b running=2", "alice: sk-a\n# x\nbob: sk-b running=2\n"]
    )
    def test_the_environment(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setenv("MILLRACE_API_KEYS", text)
        keys = Keys("env:MILLRACE_API_KEYS")
        assert keys.owner(b"sk-a") == Owner("alice")
        assert keys.owner(b"sk-b") == Owner("bob", Quota(running=2))
        assert keys.owner(b"sk-c") is None

    def test_an_environment_without_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NO_KEYS", raising=False)
        with pytest.raises(MillraceError, match="the environment variable NO_KEYS is not set"):
            Keys("env:NO_KEYS")
        monkeypatch.setenv("NO_KEYS", "")
        with pytest.raises(MillraceError, match="NO_KEYS must have at least one key"):
            Keys("env:NO_KEYS")
        with pytest.raises(MillraceError, match="after env: stands the name") as refused:
            Keys(f"env:{SECRET}")
        assert SECRET not in str(refused.value)

    @pytest.mark.parametrize("keys", [[], [""], ["a b"], ["ä"], ["a\nb"]])
    def test_lists_that_are_none(self, keys: list[str]) -> None:
        with pytest.raises(MillraceError, match=r"^api_keys(, entry 1: | must have at least one key)"):
            Service(echo, api_keys=keys)

    @pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX")
    @pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
    def test_a_file_that_everybody_can_read_is_warned_of(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool
    ) -> None:
        path = written(tmp_path, WELL)
        path.chmod(mode)
        Keys(path)
        assert ("chmod o= " in caplog.text) is warned


def written(folder: Path, text: str) -> Path:
    path = folder / "keys.txt"
    path.write_text(text)
    path.chmod(0o600)
    return path


class TestNewKeys:
    def test_the_line_opens_to_the_key_and_does_not_have_it(self) -> None:
        secret, line = new_key("alice")
        assert Keys([line]).owner(secret.encode()) == Owner("alice")
        assert secret not in line
        assert new_key("alice")[0] != secret
        with pytest.raises(ValueError, match="is no name"):
            new_key("al ice")

    @pytest.mark.parametrize(
        "command",
        [
            f"{shlex.quote(sys.executable)} -c "
            "\"from millrace.launchers.api.keys import new_key; print(*new_key('alice'), sep='\\n')\"",
            'key=sk-$(openssl rand -hex 24); echo $key; echo "alice: sha256:$(printf %s $key | sha256sum | cut -c-64)"',
        ],
    )
    def test_the_ways_of_the_docs(self, command: str) -> None:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=30)
        secret, line = done.stdout.splitlines()
        assert Keys([line]).owner(secret.encode()) == Owner("alice")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is looked at fifty times a second."""
    monkeypatch.setattr("millrace.launchers.api.keys.AGAIN", 0.02)


class TestReload:
    def test_a_file_that_changes_is_read_again(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, quick: None
    ) -> None:
        caplog.set_level(logging.INFO, "millrace.service")
        path = written(tmp_path, WELL)
        with running(echo, api_keys=path) as server:
            assert server.post(question(), key("sk-a"))[0] == 200
            assert server.post(question(), key(SECRET))[0] == 401

            replaced(path, f"bob: {SECRET}\n")
            eventually(lambda: server.post(question(), key(SECRET))[0] == 200)
            assert server.post(question(), key("sk-a"))[0] == 401

            replaced(path, f"bob {SECRET}\n")
            eventually(lambda: server.post(question(), key("x")) and "stay as they were" in caplog.text)
            assert server.post(question(), key(SECRET))[0] == 200

            path.unlink()
            eventually(lambda: server.post(question(), key("x")) and "No such file" in caplog.text)
            assert server.post(question(), key(SECRET))[0] == 200

            path.write_text(WELL)
            eventually(lambda: server.post(question(), key("sk-a"))[0] == 200)
            assert server.post(question(), key(SECRET))[0] == 401
        assert "keys.txt were read again: 1" in caplog.text
        assert caplog.text.count("stay as they were") == 2
        assert "keys.txt, line 1: after the key" in caplog.text
        assert SECRET not in caplog.text

    def test_it_is_looked_at_once_a_second_at_most(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks = 0
        path = written(tmp_path, WELL)
        look = Path.stat

        def counting(self: Path, **options: Any) -> os.stat_result:
            nonlocal looks
            looks += self == path
            return look(self, **options)

        monkeypatch.setattr(Path, "stat", counting)
        keys = Keys(path)
        before = looks
        for _ in range(1000):
            assert b"sk-a" in keys
        assert looks - before <= 1 / AGAIN

    def test_what_an_owner_has_used_up_stays_used_up(self, tmp_path: Path, quick: None) -> None:
        path = written(tmp_path, "alice: sk-a requests=1/h\n")
        with running(echo, api_keys=path) as server:
            assert server.post(question(), key("sk-a"))[0] == 200
            replaced(path, "alice: sk-b requests=1/h running=3\n")
            eventually(lambda: server.post(question(), key("sk-b"))[0] == 429)
            assert server.post(question(), key("sk-b"))[2]["error"]["code"] == "quota_exceeded"

    @pytest.mark.slow
    @pytest.mark.skipif(os.name != "posix", reason="there is no SIGHUP")
    def test_sighup(self, tmp_path: Path) -> None:
        path = written(tmp_path, WELL)
        (tmp_path / "app.py").write_text("async def flow(text: str) -> str:\n    return text\n")
        with millrace_process(
            "--verbose", "serve", "app:flow", "--no-chat", "--api-keys", str(path), cwd=tmp_path
        ) as server:
            replaced(path, f"alice: {SECRET}\n")
            server.process.send_signal(signal.SIGHUP)
            eventually(lambda: "keys.txt were read again: 1" in server.output())
            with server.connect() as connection:
                connection.send("POST", PATH, question(), key(SECRET))
                assert connection.reply().status == 200
            assert server.process.poll() is None
            command = Path(f"/proc/{server.process.pid}/cmdline")
            assert SECRET not in (command.read_text() if command.exists() else "")
            assert SECRET not in server.output()


def replaced(path: Path, text: str) -> None:
    """As editors and `mv` do it: the old file or the new one, never a part."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(path)


@pytest.mark.parametrize("debug", [False, True])
def test_a_key_is_in_no_answer_and_no_log(caplog: pytest.LogCaptureFixture, debug: bool) -> None:
    async def fails(text: str) -> str:
        raise ValueError("no")

    caplog.set_level(logging.DEBUG)
    with running(fails, api_keys=[f"alice: {SECRET}"], debug=debug) as server:
        answers = [
            server.post(question(), key(SECRET)),
            server.post(question(), key(SECRET + "x")),
            server.post(b"{", key(SECRET)),
            server.post(question(stream=True, temperature="hot"), key(SECRET)),
            server.get("/status", key(SECRET)),
            server.get("/nothing", key(SECRET)),
        ]
        with server.connect() as connection:
            connection.send("GET", "/metrics", headers=key(SECRET))
            answers.append(connection.read())
    assert [answer[0] for answer in answers[:-1]] == [500, 401, 400, 400, 200, 404]
    for hidden in (SECRET, DIGEST):
        assert hidden not in caplog.text
        assert hidden not in str(answers)
    assert "run" in caplog.text
