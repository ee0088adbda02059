"""One engine for everybody who wants the same weights on the same device."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from ...streaming.errors import ModelError
from ...streaming.limits import Limits
from .engines import Engine, check_idle
from .memory import KV
from .sources import Source

__all__ = ["shared_engine"]

_lock = threading.Lock()
_engines: WeakValueDictionary[tuple[Any, ...], Engine] = WeakValueDictionary()


def shared_engine(
    source: Source,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantization: Any = None,
    kv: KV | None = None,
    limits: Limits | None = None,
    chat_template: str | None = None,
    adapter: str | os.PathLike[str] | None = None,
    idle: float | None = None,
    process: bool | None = None,
) -> Engine:
    """The engine for these weights, dtype, device, adapter and quantisation; made if there is none yet.

    `idle` and `process` are as for Engine; left out, they are as whoever came first has said.

    Raises:
        ModelError: there is one with another `kv`, `limits`, `chat_template` or `idle`, or one at work with another
            `process`; names both.
        ValueError: `idle` is no number of seconds.
    """
    check_idle(idle)
    tuned = None if adapter is None else _identity(adapter)
    key = (_identity(source), device, dtype, repr(quantization), tuned)
    wanted: dict[str, Any] = {"kv": kv or KV(), "limits": limits or Limits(), "chat_template": chat_template}
    with _lock:
        engine = _engines.get(key)
        if engine is None or (engine.status().state == "closed" and _differences(engine, wanted)):
            engine = Engine(
                source,
                device=device,
                dtype=dtype,
                quantization=quantization,
                adapter=adapter,
                idle=idle,
                process=process,
                **wanted,
            )
            _engines[key] = engine
            return engine
        differences = _differences(engine, wanted)
        if idle is not None and idle != engine.idle:
            differences.append(f"idle={engine.idle!r}, not {idle!r}")
        at_work = engine.status().state in ("loading", "ready")
        if process is not None and process != bool(engine.process) and at_work:
            differences.append(f"process={bool(engine.process)}, not {process!r}")
        if differences:
            raise ModelError(
                f"{source} is already in use with {'; '.join(differences)}. Models that share weights share these "
                "settings: give the same, or make an Engine of its own"
            )
        if process is not None and not at_work:
            engine.process = process
        return engine


def _differences(engine: Engine, wanted: dict[str, Any]) -> list[str]:
    """Each setting that is not as wanted, with both values."""
    has = {name: getattr(engine.settings, name) for name in wanted}
    return [f"{name}={has[name]!r}, not {value!r}" for name, value in wanted.items() if has[name] != value]


def _identity(source: Source) -> Any:
    """A directory by its real path, anything else by itself."""
    if callable(source):
        return source
    path = Path(os.fspath(source)).expanduser()
    return str(path.resolve()) if path.is_dir() else str(source)
