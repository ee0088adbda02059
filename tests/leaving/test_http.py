"""Leaving over HTTP: every kind of step, streamed and whole answers, by FIN, RST and the client's sudden death.

Admission's own line is a row of its own: a request that waits there must never start.
"""

from __future__ import annotations

import pytest

from tests.launchers.support import PATH, RESPONSES, running
from tests.leaving.clients import LEAVES, leave_at_work, leave_in_line
from tests.leaving.kinds import KINDS

LEFT = [*((PATH, how) for how in LEAVES), (RESPONSES, "FIN")]
"""Which endpoint is left how: one loop answers at all of them."""


@pytest.mark.slow
@pytest.mark.parametrize(("path", "how"), LEFT)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("kind", KINDS)
def test_leaving(kind: str, path: str, stream: bool, how: str) -> None:
    leave_at_work(kind, running, path, stream, how)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "how"), LEFT)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_leaving_admissions_line(path: str, stream: bool, how: str) -> None:
    leave_in_line(running, path, stream, how)
