"""API keys: in a file, in the environment or in a list. Only their digests are kept, and no message shows one."""

from __future__ import annotations

import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from hmac import compare_digest
from os import PathLike
from pathlib import Path

from ...streaming.errors import MillraceError
from ..owners import Owner
from .key_lines import is_name, parse_lines

__all__ = ["Keys", "new_key"]

logger = logging.getLogger("millrace.service")

AGAIN = 1.0
"""Seconds between two looks at the file."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Signature = tuple[int, ...]


def new_key(name: str) -> tuple[str, str]:
    """A key that nobody can guess, for its user; and the line for the file, which has its digest alone.

    Raises:
        ValueError: a name that cannot be: it has up to 64 letters, digits and `._@+-`.
    """
    if not is_name(name):
        raise ValueError(f"{name!r} is no name: give up to 64 letters, digits and ._@+-")
    key = "sk-" + secrets.token_urlsafe(32)
    return key, f"{name}: sha256:{sha256(key.encode()).hexdigest()}"


class Keys:
    """Whose key is whose.

    Args:
        source: a file with one key a line; `"env:NAME"`, an environment variable with the same, where commas end
            lines as well; or the lines. See key_lines.py for what a line has.

    A file that has changed is read again, at most a second later. While it cannot be, its keys stay as they were.

    Raises:
        MillraceError: there is no such file or variable, no key in it, or a line that cannot be; says which.
    """

    def __init__(self, source: str | PathLike[str] | Sequence[str]) -> None:
        self._file: KeyFile | None = None
        if not isinstance(source, str | PathLike):
            self._owners = parse_lines(source, "api_keys, entry")
        elif os.fspath(source).startswith("env:"):
            self._owners = _from_variable(os.fspath(source).removeprefix("env:"))
        else:
            if isinstance(source, str) and not os.path.exists(source):
                raise MillraceError(
                    "there is no such file of API keys; give the path of one (what was given is not shown, "
                    "since it could be a key), env:NAME, or in Python a list of keys"
                )
            self._file = KeyFile(Path(source))
            self._owners = self._file.read()

    @property
    def path(self) -> Path | None:
        """The file that they come from, if they do."""
        return None if self._file is None else self._file.path

    def owner(self, key: bytes) -> Owner | None:
        """Whose key it is, in constant time: neither its text nor its place tells."""
        digest = sha256(key).digest()
        return self.find(lambda known: compare_digest(known, digest))

    def find(self, is_meant: Callable[[bytes], bool]) -> Owner | None:
        """Whose key it is of whose digest that is true. All are tried, so that the time tells nothing."""
        if self._file is not None and self._file.has_changed():
            self.reload()
        found = None
        for known, owner in self._owners.items():
            if is_meant(known):
                found = owner
        return found

    def __contains__(self, key: bytes) -> bool:
        return self.owner(key) is not None

    def reload(self) -> None:
        """Reads the file again; the log tells what came of it."""
        if self._file is None:
            return
        try:
            self._owners = self._file.read()
        except MillraceError as error:
            logger.warning("the API keys stay as they were: %s", error)
        else:
            logger.info("the API keys in %s were read again: %d", self._file.path, len(self._owners))


class KeyFile:
    """A file of API keys, which is looked at now and then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: Signature | None = None
        self._next_look = 0.0

    def has_changed(self) -> bool:
        """Whether it is another one than when it was read last; it is looked at once a second at most."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + AGAIN
        return _signature(self.path) != self._seen

    def read(self) -> dict[bytes, Owner]:
        """The owners in it, by the digests of their keys.

        Raises:
            MillraceError: it cannot be read, or there is a line in it that cannot be.
        """
        self._next_look = time.monotonic() + AGAIN
        self._seen = _signature(
            self.path
        )  # before it is read: what is written meanwhile is seen by the next look
        try:
            text = self.path.read_text(encoding="utf-8")
            everybody = self.path.stat().st_mode & stat.S_IROTH
        except OSError as error:
            raise MillraceError(
                f"cannot read the API keys in {self.path}: {error.strerror}; give a file with one key a line"
            ) from None
        except UnicodeDecodeError:
            raise MillraceError(f"{self.path} is no text in UTF-8; give a file with one key a line") from None
        owners = parse_lines(text.splitlines(), f"{self.path}, line")
        if everybody and os.name == "posix":
            logger.warning(
                "everybody on this machine can read the API keys in %s; keep others out: chmod o= %s",
                self.path,
                self.path,
            )
        return owners


def _signature(path: Path) -> Signature | None:
    """What changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _from_variable(name: str) -> dict[bytes, Owner]:
    if not VARIABLE.fullmatch(name):
        raise MillraceError(
            "after env: stands the name of an environment variable, as in env:MILLRACE_API_KEYS"
        )
    text = os.environ.get(name)
    if text is None:
        raise MillraceError(f"the environment variable {name} is not set; it must have the API keys in it")
    return parse_lines(re.split(r"[\n,]", text), f"{name}, line")
