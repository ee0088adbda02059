"""Models behind OpenAI-compatible servers, asked and stopped as local ones are.

httpx is loaded by the first request::

    engine = RemoteEngine("http://localhost:8000/v1", "org/name")
    generation = engine.submit(Request(messages=[Message.user("Hi")]))
    async for delta in generation:
        print(delta.text, end="")
"""

from .engines import RemoteEngine
from .generations import RemoteGeneration
from .servers import Server
from .timeouts import Timeouts

__all__ = ["RemoteEngine", "RemoteGeneration", "Server", "Timeouts"]
