"""The local engine: a language model on this machine, many requests at once, each of which can be stopped.

A library of its own, without torch until an engine loads::

    engine = Engine("path/to/weights")
    generation = engine.submit(Request(prompt="Once", sampling=Sampling(max_tokens=20)))
    async for delta in generation:
        print(delta.text, end="")
"""

from .engines import Engine
from .generations import Generation
from .memory import KV
from .requests import Completion, Delta, FinishReason, Request, TokenLogprobs
from .sampling import Sampling
from .sharing import shared_engine
from .statuses import EngineState, EngineStatus

__all__ = [
    "KV",
    "Completion",
    "Delta",
    "Engine",
    "EngineState",
    "EngineStatus",
    "FinishReason",
    "Generation",
    "Request",
    "Sampling",
    "TokenLogprobs",
    "shared_engine",
]
