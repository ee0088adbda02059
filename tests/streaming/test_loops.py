"""The framework's loop: after a fork, and at interpreter exit."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

START = """
import asyncio, os, sys, threading, time
from millrace import Pipeline
from millrace.streaming import status

async def forever(x):
    try:
        while True:
            yield "x"
            await asyncio.sleep(0.001)
    finally:
        print("cleaned up", flush=True)

def plain(x):
    return x + 1

async def later(x):
    await asyncio.sleep(0)
    return x + 1
"""


def script(code: str) -> tuple[str, str, int, float]:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, timeout=60)
    return done.stdout, done.stderr, done.returncode, time.perf_counter() - started


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_after_a_fork_everything_is_built_anew() -> None:
    out, err, code, _ = script("""
run = Pipeline(forever).start(0)
assert Pipeline(plain, later)(1) == 3
assert Pipeline(plain).stream(1).result == 2
assert status().runs == 1
child = os.fork()
if child == 0:
    assert status().runs == 0
    assert Pipeline(plain, later)(1) == 3
    assert Pipeline(plain).stream(1).result == 2
    print("child", flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert Pipeline(plain, later)(1) == 3
run.cancel()
run.wait_sync()
""")
    assert (out, err, code) == ("child\ncleaned up\n", "", 0)


def test_interpreter_exit_stops_runs_and_waits_for_their_cleanup() -> None:
    out, err, code, _ = script("run = Pipeline(forever).start(0); next(run.events())")
    assert (out, err, code) == ("cleaned up\n", "", 0)


def test_interpreter_exit_does_not_wait_for_a_blocked_function() -> None:
    out, err, code, took = script("""
began = threading.Event()
run = Pipeline(lambda x: (began.set(), time.sleep(60))).start(0)
began.wait()
""")
    assert (out, err, code) == ("", "", 0)
    assert took < 20


def test_ctrl_c_in_a_loop_and_in_a_call() -> None:
    for code in (
        "for piece in Pipeline(forever).stream(0).text(): began()",
        "Pipeline(lambda x: began(), forever)(0)",
    ):
        out, err, _, took = script(f"""
import signal
def began(done=[]):
    if not done:
        done.append(True)
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    {code}
except KeyboardInterrupt:
    while status().runs:
        time.sleep(0.001)
    print("interrupted", flush=True)
""")
        assert (out, err) == ("cleaned up\ninterrupted\n", "")
        assert took < 20
