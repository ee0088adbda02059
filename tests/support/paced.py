"""A real tiny model for an engine in another process: a function of a module, and forwards that can be counted.

`MILLRACE_PACED` names a directory. While it has a file `pace`, every forward takes that many seconds; each
forward adds a byte to `forwards`. While there is a file `crash`, loading ends the process; while there is a file
`stuck`, it goes on.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tests.support.gated import tiny_model, tiny_tokenizer

__all__ = ["Paced", "load", "load_plainly"]


class Paced:
    """The test's hand on the model: made before the engine starts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        os.environ["MILLRACE_PACED"] = str(directory)

    @property
    def forwards(self) -> int:
        """How many forwards there have been."""
        path = self.directory / "forwards"
        return path.stat().st_size if path.exists() else 0

    def pace(self, seconds: float) -> None:
        (self.directory / "pace").write_text(str(seconds))

    def run_free(self) -> None:
        (self.directory / "pace").unlink(missing_ok=True)

    def crash(self, crashes: bool) -> None:
        self._set("crash", crashes)

    def stick(self, sticks: bool) -> None:
        self._set("stuck", sticks)

    def _set(self, name: str, there: bool) -> None:
        path = self.directory / name
        if there:
            path.touch()
        else:
            path.unlink(missing_ok=True)


def load() -> tuple[Any, Any]:
    """The tiny model, paced and counted."""
    directory = Path(os.environ["MILLRACE_PACED"])
    if (directory / "crash").exists():
        os._exit(3)
    while (directory / "stuck").exists():
        time.sleep(0.01)

    def count(tokens: int) -> None:
        with (directory / "forwards").open("ab") as counted:
            counted.write(b".")
        pace = directory / "pace"
        if pace.exists():
            time.sleep(float(pace.read_text() or 0))

    return tiny_model(on_forward=count), tiny_tokenizer()


def load_plainly() -> tuple[Any, Any]:
    return tiny_model(), tiny_tokenizer()
