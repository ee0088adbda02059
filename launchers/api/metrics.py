"""The figures of a service in the text format of Prometheus, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from ...streaming.errors import require
from ..histograms import BOUNDS
from ..tallies import LATELY, OUTCOMES
from .figures import interrupted

__all__ = ["Metrics"]

SERVICE_GAUGES = {
    "running": "Runs that hold a permit",
    "running_limit": "Permits that there are",
    "waiting": "Runs that wait for a permit",
    "waiting_limit": "Places in the line",
    "followers": "Clients that follow a run which somebody else has started",
}
TIMES = {
    "in_line": ("time_in_line", "From being asked for to the permit, or to the end without one"),
    "first_output": ("time_to_first_output", "From being asked for to the first piece of the answer"),
    "between": ("time_between_pieces", "Between pieces of an answer: for each, the mean of its run"),
}
WORKER_GAUGES = {
    "all": "Processes that serve",
    "ready": "Processes whose flow can serve",
}
ENGINE_GAUGES = {
    "running": ("running", "Requests that run in the engine"),
    "running_limit": ("running_limit", "Requests that may run in the engine at once"),
    "waiting": ("waiting", "Requests that wait in the engine's line"),
    "waiting_limit": ("waiting_limit", "Places in the engine's line"),
    "blocks_used": ("blocks_used", "Blocks of KV memory in use"),
    "blocks_total": ("blocks", "Blocks of KV memory that there are"),
    "tokens_per_second": ("tokens_per_second", "Tokens produced a second, over the last seconds"),
    "time_to_first_token": (
        "time_to_first_token_seconds",
        "Mean time from submit to first output of the last 64 requests",
    ),
}
ENGINE_COUNTERS = {
    "tokens_read": "Prompt tokens computed",
    "tokens_reused": "Prompt tokens found in the pool: prefix hits",
    "tokens_produced": "Tokens produced",
    "preemptions": "Requests that lost their memory to an older one and were computed again",
    "steps": "Forwards of the model",
}


class Metrics:
    """Writes figures down as Prometheus reads them.

    Raises:
        MissingExtra: prometheus-client is not installed.
    """

    def __init__(self) -> None:
        require("prometheus_client", "serve")
        from prometheus_client import CollectorRegistry

        self._figures: dict[str, Any] | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self, figures: dict[str, Any]) -> bytes:
        """The whole answer, in version 0.0.4 of the format; `figures` as `/status` has them."""
        from prometheus_client import generate_latest

        self._figures = figures
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Any]:
        """Called by the registry."""
        figures = self._figures
        if figures is not None:
            yield from _of_service(figures)
            yield from _of_times(figures["times"])
            yield from _of_keys(figures["keys"])
            yield from _of_engines(figures["engines"], "workers" in figures)


def _of_service(figures: dict[str, Any]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    runs, admission = figures["runs"], figures["admission"]
    ready = float(figures["status"] == "ready")
    yield GaugeMetricFamily("millrace_ready", "1 when the flow can serve", ready)
    yield GaugeMetricFamily("millrace_uptime_seconds", "Since the service was made", figures["uptime"])
    yield CounterMetricFamily("millrace_runs_started", "Runs that were asked for", runs["started"])
    ended = CounterMetricFamily("millrace_runs_ended", "Runs by how they ended", labels=["outcome"])
    for outcome in OUTCOMES:
        ended.add_metric([outcome], runs[outcome])
    yield ended
    for name, words in SERVICE_GAUGES.items():
        yield GaugeMetricFamily(f"millrace_{name}", words, admission[name])
    if "workers" in figures:
        for name, words in WORKER_GAUGES.items():
            yield GaugeMetricFamily(f"millrace_workers_{name}", words, figures["workers"][name])
    yield GaugeMetricFamily(
        "millrace_interruption_ratio",
        f"Of the runs with a place that ended in the last {LATELY:g} s, the share that was cancelled",
        interrupted(figures["lately"]["ended"]),
    )


def _of_times(times: dict[str, Any]) -> Iterator[Any]:
    from prometheus_client.core import HistogramMetricFamily

    for name, (named, words) in TIMES.items():
        family = HistogramMetricFamily(f"millrace_{named}_seconds", words)
        family.add_metric([], *_buckets(times[name]))
        yield family
    family = HistogramMetricFamily(
        "millrace_run_duration_seconds", "From being asked for to the end", labels=["outcome"]
    )
    for outcome, histogram in times["took"].items():
        family.add_metric([outcome], *_buckets(histogram))
    yield family


def _buckets(histogram: dict[str, Any]) -> tuple[list[tuple[str, float]], float]:
    """As the library wants them: each class with all below it, by its bound; and the sum."""
    from prometheus_client.utils import floatToGoString

    bounds = [*map(floatToGoString, BOUNDS), "+Inf"]
    return list(zip(bounds, accumulate(histogram["counts"]), strict=True)), histogram["sum"]


def _of_keys(keys: dict[str, Any]) -> Iterator[Any]:
    """What was done for each API key, by the key's name."""
    from prometheus_client.core import CounterMetricFamily

    runs = CounterMetricFamily(
        "millrace_key_runs", "Runs by the key that asked, and how they ended", labels=["key", "outcome"]
    )
    tokens = CounterMetricFamily(
        "millrace_key_tokens", "Tokens that the runs of a key have read and produced", labels=["key", "kind"]
    )
    for key, figures in keys.items():
        for outcome in OUTCOMES:
            runs.add_metric([key, outcome], figures["ended"][outcome])
        for kind in ("prompt", "completion"):
            tokens.add_metric([key, kind], figures[f"{kind}_tokens"])
    yield runs
    yield tokens


def _of_engines(engines: list[dict[str, Any]], by_worker: bool) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    labels = ["module", "worker"] if by_worker else ["module"]
    ready = GaugeMetricFamily("millrace_engine_ready", "1 when a token can be produced", labels=labels)
    stops = CounterMetricFamily(
        "millrace_engine_stops", "Requests that ended, by cause", labels=[*labels, "cause"]
    )
    for engine in engines:
        names = [str(engine[label]) for label in labels]
        ready.add_metric(names, float(engine["state"] == "ready"))
        for cause, count in sorted(engine["stops"].items()):
            stops.add_metric([*names, cause], count)
    yield ready
    yield stops
    for figure, (name, words) in ENGINE_GAUGES.items():
        yield _family(GaugeMetricFamily, name, words, figure, engines, labels)
    for figure, words in ENGINE_COUNTERS.items():
        yield _family(CounterMetricFamily, figure, words, figure, engines, labels)


def _family(
    kind: Any, name: str, words: str, figure: str, engines: list[dict[str, Any]], labels: list[str]
) -> Any:
    """One figure of all engines; of those that do not know it there is no line."""
    family = kind(f"millrace_engine_{name}", words, labels=labels)
    for engine in engines:
        if engine[figure] is not None:
            family.add_metric([str(engine[label]) for label in labels], engine[figure])
    return family
