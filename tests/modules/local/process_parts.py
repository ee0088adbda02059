"""What the tests of engines in processes of their own share: how such an engine is asked."""

from __future__ import annotations

from typing import Any

from millrace.modules.local import Request, Sampling

__all__ = ["ENDLESS", "GREEDY", "request"]

GREEDY = Sampling(temperature=0.0, max_tokens=20)
ENDLESS = Sampling(temperature=0.0, max_tokens=400)


def request(prompt: str = "the mill", sampling: Sampling = GREEDY, **options: Any) -> Request:
    return Request(prompt=prompt, sampling=sampling, **options)
