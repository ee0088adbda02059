"""/metrics, read with the parser of the library that Prometheus' own people keep."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from millrace import Limits, LocalModel
from millrace.launchers.api.metrics import ENGINE_COUNTERS, ENGINE_GAUGES
from tests.launchers.support import Running, echo, question, running
from tests.support.gated import Gate, gated_engine
from tests.support.leaks import eventually

Labels = tuple[str, ...]


def scrape(server: Running) -> dict[str, dict[Labels, float]]:
    """The samples by name and by the values of their labels, sorted."""
    with server.connect() as connection:
        connection.send("GET", "/metrics")
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
