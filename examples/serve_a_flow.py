"""A flow of your own over HTTP and as a web chat: chat at /, the API under /v1.

python examples/serve_a_flow.py            (Ctrl-C ends it)
millrace serve examples.serve_a_flow:flow  (the same, from the command line)
"""

import asyncio
from collections.abc import AsyncIterator

from millrace import Limits, Pipeline, serve


async def echo(text: str) -> AsyncIterator[str]:
    """Says the words back, one by one; a client that leaves ends it."""
    for word in text.split():
        yield word + " "
        await asyncio.sleep(0.05)


flow = Pipeline(str.strip, echo, name="echo")

if __name__ == "__main__":
    serve(flow, port=8000, chat=True, limits=Limits(running=4, waiting=16), announce=print)
