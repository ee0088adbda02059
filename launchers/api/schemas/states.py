"""Health checks, `/status` and `/metrics`, described: how the service is."""

from __future__ import annotations

from typing import Any

from ...tallies import OUTCOMES
from .answers import COUNT, TEXT, content, json_answer
from .components import Components, Schema
from .refusals import refusals

__all__ = ["describe_states"]

OPEN: dict[str, Any] = {"security": []}
"""What needs no key."""

METRICS = """\
# HELP millrace_ready 1 when the flow can serve
# TYPE millrace_ready gauge
millrace_ready 1.0
# HELP millrace_runs_started_total Runs that were asked for
# TYPE millrace_runs_started_total counter
millrace_runs_started_total 3.0
"""


def describe_states(components: Components, model: str) -> dict[str, Any]:
    """The paths at which people and machines look at the service."""
    health = components.name("Health", _health(("loading", "ready", "failed", "starting", "stopping")))
    status = components.name("Status", _status())
    live = {"type": "object", "required": ["status"], "properties": {"status": {"enum": ["live"]}}}
    loading = {"status": "loading", "stage": "weights", "progress": 0.4}
    return {
        "/health/live": _get(
            "live",
            "Whether the process answers",
            {"200": json_answer("It does", live, {"status": "live"})},
            **OPEN,
        ),
        "/health/ready": _get(
            "ready",
            "Whether the flow can serve",
            {
                "200": json_answer("It can", health, {"status": "ready"}),
                "503": json_answer("Not yet, or not any more", health, loading),
            },
            **OPEN,
        ),
        "/status": _get(
            "status",
            "How the service and its engines are, in numbers",
            {"200": json_answer("At this moment; counters are since its start", status, _example(model))},
        ),
        "/metrics": _get(
            "metrics",
            "The same for Prometheus",
            {
                "200": {
                    "description": "Version 0.0.4 of its text format",
                    "content": content(TEXT, METRICS, "text/plain"),
                },
                **refusals(components, 501),
            },
        ),
    }


def _get(name: str, summary: str, responses: dict[str, Any], **more: Any) -> dict[str, Any]:
    told = {"operationId": name, "tags": ["Service"], "summary": summary, "responses": responses, **more}
    return {"get": told}


def _health(states: tuple[str, ...]) -> Schema:
    return {
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"enum": list(states)},
            "stage": {**TEXT, "description": "What loading is at, or what has died"},
            "progress": {"type": "number", "minimum": 0, "maximum": 1},
            "error": {**TEXT, "description": "The type of what loading failed with"},
        },
    }


def _status() -> Schema:
    runs = dict.fromkeys(("started", *OUTCOMES), COUNT)
    admission = dict.fromkeys(("running", "running_limit", "waiting", "waiting_limit"), COUNT)
    engine = {
        "type": "object",
        "required": ["module", "state"],
        "properties": {"module": TEXT, "state": TEXT},
    }
    properties = {
        **_health(("loading", "ready", "failed", "starting", "stopping"))["properties"],
        "model": TEXT,
        "uptime": {"type": "number", "minimum": 0, "description": "Seconds"},
        "runs": {"type": "object", "required": list(runs), "properties": runs},
        "admission": {"type": "object", "required": list(admission), "properties": admission},
        "engines": {"type": "array", "items": engine},
    }
    required = ["status", "model", "uptime", "runs", "admission", "engines"]
    return {"type": "object", "required": required, "properties": properties}


def _example(model: str) -> dict[str, Any]:
    return {
        "status": "ready",
        "model": model,
        "uptime": 61.25,
        "runs": {"started": 3, **dict.fromkeys(OUTCOMES, 0), "completed": 3},
        "admission": {"running": 0, "running_limit": 4, "waiting": 0, "waiting_limit": 16},
        "engines": [],
    }
