"""How steps compose: steps, pipelines, parallel flows, switches, loops, bindings."""

from .args import Args
from .bindings import arg, bind
from .functions import step
from .loop import If, Loop
from .parallel import Diverter, Parallel, Warp
from .pipeline import Pipeline
from .steps import Step
from .switch import Switch

__all__ = [
    "Args",
    "Diverter",
    "If",
    "Loop",
    "Parallel",
    "Pipeline",
    "Step",
    "Switch",
    "Warp",
    "arg",
    "bind",
    "step",
]
