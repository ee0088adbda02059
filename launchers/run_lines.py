"""Run lines: what a service prints of each run that is over, on stderr."""

from __future__ import annotations

import json
import logging
import time
from enum import StrEnum

from .run_records import RunRecord
from .run_tables import shown, span

__all__ = ["LogFormat", "print_runs"]


class LogFormat(StrEnum):
    """A line for people, or an object for programs."""

    TEXT = "text"
    JSON = "json"


def print_runs(form: LogFormat | None) -> None:
    """From now on this process prints a line for each run of a service, and no other handler hears of them.

    None: there are no such lines.
    """
    logger = logging.getLogger("millrace.runs")
    logger.propagate = False
    logger.setLevel(logging.WARNING if form is None else logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(TextLines() if form is LogFormat.TEXT else JsonLines())
    logger.handlers = [] if form is None else [handler]


class JsonLines(logging.Formatter):
    """What the record says, and `time` before it, in seconds since the epoch."""

    def format(self, record: logging.LogRecord) -> str:
        run = record.msg
        if not isinstance(run, RunRecord):
            return super().format(record)
        return json.dumps({"time": round(record.created, 3), **run.as_dict()}, separators=(",", ":"))


class TextLines(logging.Formatter):
    """When, how it ended and why, whose it was, how long it took, what it said, and its id."""

    def format(self, record: logging.LogRecord) -> str:
        run = record.msg
        if not isinstance(run, RunRecord):
            return super().format(record)
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        outcome = run.outcome.replace("_", " ") + (f" ({run.reason})" if run.reason else "")
        return shown("  ".join(filter(None, [clock, outcome, run.endpoint, run.key, *_numbers(run), run.id])))


def _numbers(run: RunRecord) -> list[str]:
    """What there is to be told in figures; of a run that was refused at once, nothing."""
    told = []
    if run.took:
        told.append(span(run.took))
        if run.in_line >= 0.001:
            told.append(f"{span(run.in_line)} in line")
    if run.first_output is not None:
        told.append(f"first piece after {span(run.first_output)}")
        told.append(f"{run.pieces:,} piece{'s' if run.pieces > 1 else ''}")
    if run.prompt_tokens or run.completion_tokens:
        told.append(f"{run.prompt_tokens:,} + {run.completion_tokens:,} tokens")
    return told
