"""What things are called on disk: names are hashes of ids, so that no id can lead anywhere."""

from __future__ import annotations

import os
import re
from hashlib import sha256

from ..errors import QueueError

__all__ = [
    "GONE",
    "LOCK",
    "MAIL",
    "RUN",
    "SEEN",
    "is_lock_name",
    "lock_name",
    "mail_name",
    "mark_of",
    "split",
    "stem",
]

RUN, GONE, SEEN, LOCK, MAIL = ".run", ".gone", ".seen", ".lock", ".mail"
"""Endings: of a run's segment, of the trace that an expired one leaves, of what has the time at which it was followed
last, of a writer's lock and of its mailbox.
"""

_LOCK = re.compile(r"[0-9a-f]{32}\.lock", re.ASCII)
_OURS = re.compile(r"([0-9a-f]{64})(\.run|\.gone|\.seen)|([0-9a-f]{32})(\.lock|\.mail)", re.ASCII)


def stem(run_id: str) -> str:
    """The hash of a run's id: SHA-256 of its UTF-8, in hex.

    Raises:
        QueueError: an empty id.
        TypeError: an id that is no str.
    """
    if not isinstance(run_id, str):
        raise TypeError(f"a run's id is a str, not {type(run_id).__name__}")
    if not run_id:
        raise QueueError("a run's id is empty; give the id that run.id shows")
    return sha256(run_id.encode("utf-8", "surrogatepass")).hexdigest()


def lock_name() -> str:
    """A name that no lock has had before."""
    return os.urandom(16).hex() + LOCK


def mail_name(lock: str) -> str:
    """The mailbox of the writer with this lock."""
    return lock.removesuffix(LOCK) + MAIL


def is_lock_name(name: object) -> bool:
    """Whether a name read from a file is that of a lock, and so leads nowhere else."""
    return isinstance(name, str) and _LOCK.fullmatch(name) is not None


def mark_of(lock: str) -> bytes:
    """16 bytes from a lock's name that nobody can guess who says something in a run."""
    return bytes.fromhex(lock.removesuffix(LOCK))


def split(name: str) -> tuple[str, str] | None:
    """Stem and ending of a name that is one of ours; None for others, which are left alone."""
    match = _OURS.fullmatch(name)
    return (match[1] or match[3], match[2] or match[4]) if match is not None else None
