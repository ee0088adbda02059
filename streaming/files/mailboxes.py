"""How other processes reach a writer: each line that they add to its mailbox is one request to stop a run."""

from __future__ import annotations

import json
import os

from .descriptors import with_room
from .folders import Folder
from .names import mail_name

__all__ = ["read_mail", "send_mail"]


def send_mail(folder: Folder, lock: str, run_id: str, reason: str) -> None:
    """Asks the writer with this lock to stop a run; in one write, so that lines of several senders do not mix.

    Raises:
        FileNotFoundError: the mailbox is gone, and its owner with it.
    """
    line = b"\n" + json.dumps({"cancel": run_id, "reason": reason}).encode() + b"\n"
    descriptor = with_room(lambda: folder.open_to_append(mail_name(lock)))
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def read_mail(folder: Folder, lock: str, at: int) -> tuple[list[tuple[str, str]], int]:
    """What has come since byte `at`, as run and reason, and the byte to read from next.

    What is no request is passed over.
    """
    try:
        descriptor = with_room(lambda: folder.open_to_read(mail_name(lock)))
    except FileNotFoundError:
        return [], at  # somebody has removed the whole directory
    try:
        data = os.pread(descriptor, os.fstat(descriptor).st_size - at, at)
    finally:
        os.close(descriptor)
    whole = data.rfind(b"\n") + 1
    requests = []
    for line in data[:whole].splitlines():
        try:
            request = json.loads(line)
            run_id, reason = request["cancel"], request["reason"]
        except (ValueError, TypeError, KeyError, RecursionError):
            continue  # an empty line, or one that a sender died in
        if isinstance(run_id, str) and isinstance(reason, str):
            requests.append((run_id, reason))
    return requests, at + whole
