"""How steps compose: steps, pipelines, parallel flows, switches, loops, graphs, bindings."""

from .args import Args
from .bindings import arg, bind
from .graph import Graph
from .hooks import StepCall, hooks
from .loop import If, Loop
from .making import step
from .parallel import Diverter, Parallel
from .pipeline import Pipeline
from .steps import Step
from .switch import Switch
from .warps import Warp

__all__ = [
    "Args",
    "Diverter",
    "Graph",
    "If",
    "Loop",
    "Parallel",
    "Pipeline",
    "Step",
    "StepCall",
    "Switch",
    "Warp",
    "arg",
    "bind",
    "hooks",
    "step",
]
