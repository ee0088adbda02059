"""A server that is not ours, `transformers serve`, in a process of its own with the tiny model from disk.

The same commands as for `gated_server`: each forward of the model waits at a gate and is counted, by a hook of torch;
nothing of the server is changed.

    with foreign_server() as server:
        RemoteEngine(f"{server.url}/v1", server.model)
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from millrace.modules.local.loading import quiet
from tests.support.gated import Gate, tiny_model, tiny_tokenizer
from tests.support.gated_server import GatedServer
from tests.support.leaks import eventually
from tests.support.servers import answers, end, free_port

__all__ = ["ForeignServer", "foreign_server", "save_tiny_model"]


class ForeignServer(GatedServer):
    """The test's side."""

    model = ""

    def idle(self) -> bool:
        """No forward stands at the gate; of what waits in the server nobody knows."""
        now = self.counters()
        return bool(now["entered"] == now["left"])


def save_tiny_model(directory: Path) -> None:
    """The tiny model and its tokenizer as files; it samples where the temperature is not 0."""
    model = tiny_model()
    model.generation_config.do_sample = True
    with quiet():
        model.save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    config = directory / "config.json"
    saved = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**saved, "architectures": ["LlamaForCausalLM"]}), encoding="utf-8")


@contextmanager
def foreign_server() -> Iterator[ForeignServer]:
    """Starts the process, waits until its model is loaded and its gate closed, and ends it with the block."""
    with tempfile.TemporaryDirectory(prefix="millrace-foreign-") as directory:
        save_tiny_model(Path(directory))
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.foreign_server", directory],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        try:
            server = ForeignServer(process)
            server.model = directory
            yield server
        finally:
            end(process)


# ---------------------------------------------------------------- the other side


def main(directory: str) -> None:
    import os

    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the server's own words go to the log
    import torch
    from transformers import LlamaForCausalLM
    from transformers.cli.serve import Serve

    torch.set_num_threads(1)
    gate, port = Gate(), free_port()

    def before_forward(module: Any, _: Any) -> None:
        if isinstance(module, LlamaForCausalLM):
            gate.enter(0)

    torch.nn.modules.module.register_module_forward_pre_hook(before_forward)
    server = Serve(force_model=directory, device="cpu", host="127.0.0.1", port=port, non_blocking=True)
    eventually(lambda: answers(port, "/health"), timeout=60)
    gate.arm()
    print(json.dumps({"port": port}), file=told, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        found: dict[str, Any] = {}
        if asked["command"] == "open":
            gate.open(asked["n"])
        elif asked["command"] == "open_all":
            gate.open_all()
        elif asked["command"] == "close":
            gate.close()
        else:
            forwards = gate.forwards
            found = {"entered": forwards.entered, "left": forwards.left, "reached": gate.is_reached()}
        print(json.dumps(found), file=told, flush=True)
    gate.open_all()
    server.kill_server()


if __name__ == "__main__":
    main(sys.argv[1])
