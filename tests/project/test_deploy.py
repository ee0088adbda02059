"""The files of docs/deploy agree with the service; tests/leaving/test_nginx.py puts a real nginx in front of one."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.launchers.api.patience import Timings
from millrace.launchers.processes.orders import longest_end
from millrace.launchers.services import MAX_BODY
from millrace.streaming.limits import Limits

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "docs" / "deploy"
DEFAULT_TIMEOUT = 600.0


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def setting(text: str, name: str) -> str:
    """What stands behind a name, or a name and `=`; it must be there once."""
    (found,) = re.findall(rf"^\s*{name}[ =](.+?);?\s*(?:#.*)?$", text, re.MULTILINE)
    return str(found)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def commands() -> dict[str, list[str]]:
    """How the service is started there."""
    unit = shlex.split(setting(text_of("millrace.service"), "ExecStart"))
    container = text_of("Containerfile")
    entry = re.findall(r'"([^"]*)"', setting(container, "ENTRYPOINT") + setting(container, r"CMD(?= \[\"--)"))
    return {"millrace.service": unit, "Containerfile": entry}


@pytest.mark.parametrize("name", ["millrace.service", "Containerfile"])
def test_the_command_is_one(name: str) -> None:
    program, command, target, *options = commands()[name]
    assert (Path(program).name, command, target) == ("millrace", "serve", "app:flow")
    known = subprocess.run(
        [sys.executable, "-m", "millrace", "serve", "--help"], capture_output=True, text=True, timeout=60
    ).stdout
    flags = [option for option in options if option.startswith("--")]
    assert {"--workers", "--queue", "--api-keys"} <= set(flags)
    assert [flag for flag in flags if f"{flag} " not in known] == []


def test_who_stops_it_waits_for_its_drain() -> None:
    assert seconds(setting(text_of("millrace.service"), "TimeoutStopSec")) > longest_end({})
    assert float(re.findall(r"--stop-timeout (\d+)", text_of("Containerfile"))[0]) > longest_end({})


def test_nginx_waits_longer_and_takes_more_than_the_service() -> None:
    nginx, timings = text_of("nginx.conf"), Timings()
    wait = seconds(setting(nginx, "proxy_read_timeout"))
    assert wait > DEFAULT_TIMEOUT + Limits().queue_timeout
    assert wait > timings.heartbeat
    assert seconds(setting(nginx, "client_body_timeout")) >= timings.body
    assert int(setting(nginx, "client_max_body_size").removesuffix("m")) * 2**20 > MAX_BODY


def test_the_container_asks_whether_it_lives() -> None:
    assert "http://127.0.0.1:8000/health/live" in text_of("Containerfile")
    for copied in re.findall(
        r"^COPY (?!--from|app\.py)(.+) /millrace", text_of("Containerfile"), re.MULTILINE
    ):
        assert all((ROOT / name).exists() for name in copied.split())
