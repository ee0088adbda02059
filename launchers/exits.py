"""How commands end: errors in a line or two, and a code that says what kind of end it was."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from .complaints import words_of

__all__ = ["FAILED", "INTERRUPTED", "MISTAKEN", "complain", "errors"]

FAILED = 1
MISTAKEN = 2
"""What the command was given names nothing."""
INTERRUPTED = 130


@contextmanager
def errors(debug: bool = False) -> Iterator[None]:
    """Errors end the command in a line or two: 1 for what failed, 130 for Ctrl-C."""
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError) as stop:
        _close_stdout()
        raise typer.Exit(INTERRUPTED if isinstance(stop, KeyboardInterrupt) else FAILED) from None
    except (typer.Exit, typer.BadParameter):
        raise
    except Exception as error:
        if debug:
            raise
        complain(error)
        raise typer.Exit(FAILED) from None


def complain(error: Exception) -> None:
    """Says what went wrong, on standard error."""
    typer.echo(f"millrace: {words_of(error)}", err=True)


def _close_stdout() -> None:
    """Whatever reads has left, or is to read no more; nothing is to be flushed into it at exit."""
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
