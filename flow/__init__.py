"""How steps compose: steps, pipelines, switches, bindings."""

from .args import Args
from .bindings import arg, bind
from .pipeline import Pipeline
from .steps import Step, step
from .switch import Switch

__all__ = ["Args", "Pipeline", "Step", "Switch", "arg", "bind", "step"]
