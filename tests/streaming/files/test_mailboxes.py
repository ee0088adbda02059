"""Requests to other processes: whole lines, whoever dies while writing one."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.streaming.files.folders import Folder
from millrace.streaming.files.mailboxes import read_mail, send_mail
from tests.streaming.files.support import LOCK

BOX = LOCK.replace(".lock", ".mail")
requests = st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=8)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=requests, after=requests, junk=st.binary(max_size=40))
def test_requests_arrive_once_and_in_order(
    tmp_path: Path, before: list[tuple[str, str]], after: list[tuple[str, str]], junk: bytes
) -> None:
    (tmp_path / BOX).write_bytes(b"")
    folder = Folder(str(tmp_path))
    for run_id, reason in before:
        send_mail(folder, LOCK, run_id, reason)
    found, at = read_mail(folder, LOCK, 0)
    assert found == before
    assert read_mail(folder, LOCK, at) == ([], at)
    with (tmp_path / BOX).open("ab") as file:
        file.write(junk)
    for run_id, reason in after:
        send_mail(folder, LOCK, run_id, reason)
    found, at = read_mail(folder, LOCK, at)
    assert found[len(found) - len(after) :] == after
    assert read_mail(folder, LOCK, at)[0] == []


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    folder, line = Folder(str(tmp_path)), b'{"cancel": "run", "reason": "x"}\n'
    os.close(folder.create(BOX))
    for at in range(0, len(line), 5):
        assert read_mail(folder, LOCK, 0) == ([], 0)
        with (tmp_path / BOX).open("ab") as file:
            file.write(line[at : at + 5])
    assert read_mail(folder, LOCK, 0) == ([("run", "x")], len(line))
