"""One accounting that adds up: whatever becomes of a request, it is counted when it comes and when it is over.

Each row of `accounting_rows.py` is a way for requests to end, on a real service, and what must have been counted and
written down when nothing goes on any more.
"""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from millrace.launchers.run_records import OUTCOMES, RunRecord
from tests.launchers.accounting_rows import ROWS, behave
from tests.launchers.askers import RUNS, Asker
from tests.launchers.support import PATH, running
from tests.support.leaks import eventually


@pytest.mark.parametrize("name", ROWS)
def test_it_adds_up(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "millrace.runs")
    case = ROWS[name]
    with running(behave, **case.options) as server:
        service, ask = server.service, Asker(server)
        tally = service.admission.tally
        try:
            case.act(ask)
        finally:
            for connection in ask.open:
                connection.close()
        eventually(lambda: server.idle() and not service._desk.works and not service._desk.followers)
        eventually(lambda: tally.started == case.ended.total(), message=lambda: tally.ended)
    assert tally.started == tally.ended.total()
    written = [record.msg for record in caplog.records if isinstance(record.msg, RunRecord)]
    assert Counter((record.outcome, record.reason) for record in written) == case.ended
    assert tally.ended == Counter(record.outcome for record in written)
    assert sum(tally.lately()["ended"].values()) == len(written)
    assert {outcome: sum(told["counts"]) for outcome, told in tally.times()["took"].items()} == {
        outcome: tally.ended[outcome] for outcome in OUTCOMES if outcome != "rejected"
    }
    assert all(record.endpoint in (RUNS, PATH, "chat") for record in written)
    assert "private" not in "\n".join(map(str, written))
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
