"""Run records: what is written down of each run that was asked for, once it is over.

They go to the logger `millrace.runs` as lines of JSON, at the level INFO; where nobody listens nothing is written.
Prompts, answers, sessions, keys and the texts of errors are not among what they know.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Literal, NamedTuple, get_args

__all__ = ["OUTCOMES", "Outcome", "RunRecord", "write_down"]

Outcome = Literal["completed", "cancelled", "timed_out", "failed", "rejected"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

logger = logging.getLogger("millrace.runs")


class RunRecord(NamedTuple):
    """One run that is over, or was refused.

    `id` is None where nobody knows one, `key` the name of the API key, None where there is none. `in_line`,
    `first_output` and `took` are seconds from the moment at which it was asked for: to its permit (or to the end,
    where it got none), to the first piece of its answer (None where there was none), and to its end. `pieces` is how
    many came for its client; an answer that came whole is one.
    """

    id: str | None
    key: str | None
    endpoint: str
    outcome: Outcome
    reason: str | None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    in_line: float = 0.0
    first_output: float | None = None
    took: float = 0.0
    pieces: int = 0

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON; seconds to the microsecond."""
        found = self._asdict()
        return {name: round(told, 6) if isinstance(told, float) else told for name, told in found.items()}

    def __str__(self) -> str:
        return json.dumps(self.as_dict(), separators=(",", ":"))


def write_down(record: RunRecord) -> None:
    """Tells the log, if somebody listens; its handlers find the record itself as `msg`."""
    if logger.isEnabledFor(logging.INFO):
        logger.info(record)
