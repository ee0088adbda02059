"""Ids: never the same twice, in threads and in forked processes neither."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor

from millrace.streaming.ids import AT_ONCE, new_id


def test_they_are_128_bits_in_hex_and_never_the_same_in_many_threads() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: new_id(), range(20_000)))
    assert len(set(made)) == len(made)
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)


def test_a_forked_process_makes_its_own() -> None:
    new_id()  # the next ones are ready now
    here, there = os.pipe()
    child = os.fork()
    if not child:
        os.write(there, "".join(new_id() for _ in range(AT_ONCE)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(here, 32 * AT_ONCE).decode()
    os.close(here)
    os.close(there)
    assert len(theirs) == 32 * AT_ONCE
    assert not {new_id() for _ in range(AT_ONCE)} & {theirs[i : i + 32] for i in range(0, len(theirs), 32)}
