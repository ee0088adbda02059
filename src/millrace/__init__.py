"""millrace: compose LLM applications as flows that stream, stop and give their memory back.

Names are looked up at their first use, so that `import millrace` loads no torch, no web server and no chat.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .flow.args import Args
    from .flow.bindings import arg, bind
    from .flow.graph import Graph
    from .flow.loop import If, Loop
    from .flow.making import step
    from .flow.parallel import Diverter, Parallel
    from .flow.pipeline import Pipeline
    from .flow.steps import Step
    from .flow.switch import Switch
    from .flow.timelines import explain
    from .flow.warps import Warp
    from .launchers.chats import chat
    from .launchers.services import Service, serve
    from .modules.base import Module
    from .modules.embedding_models import LocalEmbedding, RemoteEmbedding
    from .modules.local import KV, Sampling
    from .modules.models import LocalModel
    from .modules.remote_flows import RemoteFlow
    from .modules.remote_models import RemoteModel
    from .streaming.errors import MillraceError
    from .streaming.limits import Limits
    from .streaming.messages import Message
    from .streaming.sessions import session

__version__ = "0.1.0"

__all__ = [
    "KV",
    "Args",
    "Diverter",
    "Graph",
    "If",
    "Limits",
    "LocalEmbedding",
    "LocalModel",
    "Loop",
    "Message",
    "MillraceError",
    "Module",
    "Parallel",
    "Pipeline",
    "RemoteEmbedding",
    "RemoteFlow",
    "RemoteModel",
    "Sampling",
    "Service",
    "Step",
    "Switch",
    "Warp",
    "arg",
    "bind",
    "chat",
    "explain",
    "serve",
    "session",
    "step",
]

_HOMES = {
    "KV": "modules.local",
    "Args": "flow.args",
    "Diverter": "flow.parallel",
    "Graph": "flow.graph",
    "If": "flow.loop",
    "Limits": "streaming.limits",
    "LocalEmbedding": "modules.embedding_models",
    "LocalModel": "modules.models",
    "Loop": "flow.loop",
    "Message": "streaming.messages",
    "MillraceError": "streaming.errors",
    "Module": "modules.base",
    "Parallel": "flow.parallel",
    "Pipeline": "flow.pipeline",
    "RemoteEmbedding": "modules.embedding_models",
    "RemoteFlow": "modules.remote_flows",
    "RemoteModel": "modules.remote_models",
    "Sampling": "modules.local",
    "Service": "launchers.services",
    "Step": "flow.steps",
    "Switch": "flow.switch",
    "Warp": "flow.warps",
    "arg": "flow.bindings",
    "bind": "flow.bindings",
    "chat": "launchers.chats",
    "explain": "flow.timelines",
    "serve": "launchers.services",
    "session": "streaming.sessions",
    "step": "flow.making",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise _missing(name)
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def _missing(name: str) -> Exception:
    """The error for a name that is not here; where it is a public name of another place, it says which.

    That is an ImportError, since `from millrace import name` drops the message of an AttributeError.
    """
    if not name.startswith("_"):
        for place in (
            "streaming",
            "flow",
            "flow.policies",
            "modules.local",
            "modules.remote",
            "modules.embeddings",
        ):
            if name in import_module(f".{place}", __name__).__all__:
                return ImportError(f"{name} is in millrace.{place}: from millrace.{place} import {name}")
        for public in __all__:
            if public.lower() == name.lower():
                return ImportError(f"millrace has no {name!r}; it is written {public}")
    return AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
