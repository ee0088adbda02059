"""LitServe, the peer of benchmarks/service.py: asynchronous for streams, its default for whole answers.

Its processes are spawned, so that its classes stand at the top of a module; it reads the annotation of `request`, and
takes what has one for a parameter of the query. Needs the extra `bench`.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import litserve

from .service_programs import answer, frame, whole

PATH = "/v1/chat/completions"


class Streaming(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None: ...

    async def decode_request(self, request) -> str:  # type: ignore[no-untyped-def]
        text: str = request["messages"][-1]["content"]
        return text

    async def predict(self, x: str) -> AsyncIterator[str]:
        async for piece in answer(x):
            yield piece

    async def encode_response(self, output: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in output:
            yield frame(piece)


class Echo(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None: ...

    def decode_request(self, request) -> str:  # type: ignore[no-untyped-def]
        text: str = request["messages"][-1]["content"]
        return text

    def predict(self, x: str) -> str:
        return x

    def encode_response(self, output: str) -> dict[str, Any]:
        return whole(output)


def main(name: str) -> None:
    """Serves until SIGTERM and prints the port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    print(port, flush=True)
    streams = name == "lit_stream"
    api = Streaming(stream=True, enable_async=True, api_path=PATH) if streams else Echo(api_path=PATH)
    server = litserve.LitServer(api, accelerator="cpu", timeout=60)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1])
