"""/metrics, read with the parser of the library that Prometheus' own people keep."""

from __future__ import annotations

import subprocess
import sys
from typing import Any
from unittest.mock import ANY

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from millrace import Limits, LocalModel, Service
from millrace.launchers.api.metrics import ENGINE_COUNTERS, ENGINE_GAUGES
from millrace.launchers.histograms import BOUNDS
from millrace.launchers.owners import KEY, Owner
from millrace.launchers.tallies import OUTCOMES
from millrace.streaming import Usage, emit
from tests.launchers.support import Running, echo, question, running, words
from tests.support.gated import Gate, gated_engine
from tests.support.leaks import eventually

Labels = tuple[str, ...]


def scrape(server: Running, name: str = "") -> dict[str, dict[Labels, float]]:
    """The samples by name and by the values of their labels, sorted."""
    with server.connect() as connection:
        connection.send("GET", "/metrics", headers={"x-name": name})
        reply = connection.reply()
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = connection.read().decode()
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.values()))] = sample.value
    return found


def test_the_service() -> None:
    with running(echo, limits=Limits(running=3, waiting=5)) as server:
        assert scrape(server)["millrace_runs_started_total"] == {(): 0}
        assert server.post(question())[0] == 200
        found = scrape(server)
    assert found["millrace_ready"] == {(): 1}
    assert found["millrace_runs_started_total"] == {(): 1}
    assert found["millrace_runs_ended_total"] == {
        ("completed",): 1,
        ("cancelled",): 0,
        ("timed_out",): 0,
        ("failed",): 0,
        ("rejected",): 0,
    }
    assert (found["millrace_running"], found["millrace_running_limit"]) == ({(): 0}, {(): 3})
    assert (found["millrace_waiting"], found["millrace_waiting_limit"]) == ({(): 0}, {(): 5})
    assert found["millrace_uptime_seconds"][()] >= 0


def test_times() -> None:
    with running(words) as server:
        for count in (3, 5):
            server.post(question("a " * count))
        with running(echo) as other:
            other.post(question())
            whole = scrape(other)
        found = scrape(server)
    for name in ("time_in_line", "time_to_first_output"):
        assert found[f"millrace_{name}_seconds_count"] == {(): 2}
        assert 0 < found[f"millrace_{name}_seconds_sum"][()] < 5
        buckets = found[f"millrace_{name}_seconds_bucket"]
        assert buckets["+Inf",] == buckets["1000.0",] == 2
        assert len(buckets) == len(BOUNDS) + 1
    assert found["millrace_time_between_pieces_seconds_count"] == {(): 2 + 4}
    assert found["millrace_run_duration_seconds_count"] == {
        (outcome,): 2 * (outcome == "completed") for outcome in OUTCOMES if outcome != "rejected"
    }
    assert found["millrace_interruption_ratio"] == {(): 0}
    assert whole["millrace_time_to_first_output_seconds_count"] == {(): 1}  # an answer that comes whole
    assert whole["millrace_time_between_pieces_seconds_count"] == {(): 0}


def test_nothing_ended_yet() -> None:
    with running(echo) as server:
        found = scrape(server)
    assert "millrace_interruption_ratio" not in found
    assert "millrace_key_runs_total" not in found
    assert found["millrace_time_in_line_seconds_bucket"]["+Inf",] == 0


async def costly(text: str) -> str:
    emit(Usage(3, 4))
    return text


class Named:
    """A middleware that says whose a request is, as the Guard does; the name `all` sees all."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = dict(scope.get("headers", ())).get(b"x-name", b"").decode()
        await self.app({**scope, KEY: Owner(name or None, sees_all=name == "all")}, receive, send)


def test_keys_by_their_names() -> None:
    def configure(service: Service) -> None:
        service.app.add_middleware(Named)

    with running(costly, configure, limits=Limits(running=1, waiting=0)) as server:
        for name in ("alice", 'b"ob\\', "alice", ""):
            assert server.post(question(), {"x-name": name})[0] == 200
        ticket = server.do(server.service.admission.enter)
        assert server.post(question(), {"x-name": "alice"})[0] == 429
        server.do(ticket.leave)
        found = scrape(server)
        assert scrape(server, "all") == {**found, "millrace_uptime_seconds": ANY}
        own = scrape(server, "alice")
        none = scrape(server, "carol")
    for name in ("millrace_key_runs_total", "millrace_key_tokens_total"):
        assert own[name] == {labels: count for labels, count in found[name].items() if labels[0] == "alice"}
        assert name not in none
    assert own["millrace_runs_started_total"] == none["millrace_runs_started_total"] == {(): 5}
    runs = {labels: count for labels, count in found["millrace_key_runs_total"].items() if count}
    assert runs == {("alice", "completed"): 2, ("alice", "rejected"): 1, ('b"ob\\', "completed"): 1}
    assert found["millrace_key_tokens_total"] == {
        ("alice", "prompt"): 6,
        ("alice", "completion"): 8,
        ('b"ob\\', "prompt"): 3,
        ('b"ob\\', "completion"): 4,
    }


def test_an_engine() -> None:
    gate = Gate()
    engine = gated_engine(gate)
    with running(LocalModel(engine, name='the "miller"\n')) as server:
        name = 'the "miller"\n'
        before = scrape(server)
        assert (name,) not in before.get("millrace_engine_time_to_first_token_seconds", {})
        with server.ask("the water", stream=False, max_tokens=3) as asking:
            gate.wait_reached()
            during = scrape(server)
            gate.open_all()
            asking.read()
        eventually(lambda: scrape(server)["millrace_engine_running"] == {(name,): 0})
        after = scrape(server)
    engine.close()
    assert during["millrace_engine_running"] == {(name,): 1}
    assert during["millrace_engine_blocks_used"][name,] > 0
    assert after["millrace_engine_blocks_used"] == {(name,): 0}
    assert after["millrace_engine_ready"] == {(name,): 1}
    assert after["millrace_engine_tokens_produced_total"] == {(name,): 3}
    assert after["millrace_engine_stops_total"] == {("length", name): 1}
    assert after["millrace_engine_time_to_first_token_seconds"][name,] > 0
    named = [f"millrace_engine_{name}" for name, _ in ENGINE_GAUGES.values()]
    named += [f"millrace_engine_{name}_total" for name in ENGINE_COUNTERS]
    assert set(named) <= after.keys()


def test_two_services_and_nothing_global() -> None:
    known = list(prometheus_client.REGISTRY.collect())
    with running(echo) as one, running(echo) as other:
        one.post(question())
        assert scrape(one)["millrace_runs_started_total"] == {(): 1}
        assert scrape(other)["millrace_runs_started_total"] == {(): 0}
    names = [family.name for family in prometheus_client.REGISTRY.collect()]
    assert names == [family.name for family in known]
    assert not any("millrace" in name for name in names)


def test_it_is_loaded_when_it_is_asked_for() -> None:
    code = (
        "import sys; from millrace import Service; service = Service(lambda text: text); service.app; "
        "sys.exit('prometheus_client' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "prometheus_client")
    with running(echo) as server:
        code, told = server.get("/metrics")
        assert (code, told["error"]["code"]) == (501, "missing_extra")
        assert "pip install 'millrace[serve]'" in told["error"]["message"]
        assert server.get("/status")[0] == 200


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Has this process look for a package in vain."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)

    class Blind:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Blind(), *sys.meta_path])
