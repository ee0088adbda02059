"""Targets: a flow named on the command line as `module:attribute`."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from ..flow.functions import as_step
from ..flow.steps import Step
from ..streaming.errors import FlowBuildError, MillraceError, MissingExtra

__all__ = ["DEMO", "load_target"]

DEMO = "millrace.launchers.demo:flow"
"""The bundled demo, which is meant where no flow is named."""

HERE = str(Path(__file__).resolve().parent.parent) + os.sep


def load_target(target: str) -> Step[Any, Any]:
    """The flow that `module:attribute` names; the attribute may have dots, a callable becomes a step.

    The current directory comes first on `sys.path`, as with `python -m`.

    Raises:
        MillraceError: it names no flow; the message names the cure.
        MissingExtra: the module needs an optional package that is not installed.
    """
    name, colon, attribute = target.partition(":")
    if not colon or not name or not attribute:
        raise MillraceError(f"{target!r} names no flow: write module:attribute, such as {_guess(target)}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    return _flow(_attribute(_module(name, target), attribute, target), target)


def _guess(target: str) -> str:
    """What somebody meant who wrote `app.py`, `app` or `app:`."""
    name = target.strip(":").removesuffix(".py").strip("./").replace("/", ".")
    return f"{name}:flow" if name else "app:flow"


def _module(name: str, target: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise MillraceError(f"{name!r} is no module name; write {_guess(name)} from the directory it is in")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise MillraceError(_missing(error.name, target)) from None
        raise MillraceError(_failed(name, error)) from error
    except MissingExtra:
        raise
    except Exception as error:
        raise MillraceError(_failed(name, error)) from error


def _missing(name: str, target: str) -> str:
    """There is no such module; files with nearly the same name are told."""
    text = f"there is no module {name!r} in {os.getcwd()} or among the installed packages"
    files = [path.stem for path in Path.cwd().glob("*.py")]
    near = difflib.get_close_matches(name, files)
    if near:
        attribute = target.partition(":")[2]
        return f"{text}; did you mean {' or '.join(f'{one}:{attribute}' for one in near)}?"
    return f"{text}; run the command in the directory that holds {name.partition('.')[0]}.py"


def _failed(name: str, error: Exception) -> str:
    return f"{name} cannot be imported: {type(error).__name__}: {error}{_place(error)}; mend it and try again"


def _place(error: BaseException) -> str:
    """The last line of the user's own code that the error came through."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({os.path.basename(error.filename)}:{error.lineno})"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((HERE, "<frozen")) and "importlib" not in frame.filename:
            return f" ({os.path.basename(frame.filename)}:{frame.lineno})"
    return ""


def _attribute(module: ModuleType, attribute: str, target: str) -> Any:
    value: Any = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise MillraceError(_no_attribute(module, attribute, part, value)) from None
    return value


def _no_attribute(module: ModuleType, attribute: str, part: str, holder: Any) -> str:
    of = module.__name__ if holder is module else f"{module.__name__}:{attribute.partition(f'.{part}')[0]}"
    flows = [name for name, value in vars(module).items() if isinstance(value, Step)]
    functions = [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__ and name[0] != "_"
    ]
    found = flows or functions
    if not found:
        return f"{of} has no {part!r}, and no flow at all; assign one: {part} = Pipeline(...)"
    kind = "flows" if flows else "functions"
    return f"{of} has no {part!r}; its {kind} are {', '.join(f'{module.__name__}:{name}' for name in found)}"


def _flow(value: Any, target: str) -> Step[Any, Any]:
    if isinstance(value, (str, int, float, bytes, ModuleType)) or value is None:
        raise MillraceError(
            f"{target} is {_described(value)} and no flow: name a Step or a function of one value"
        )
    if isinstance(value, type):
        raise MillraceError(
            f"{target} is a class and no flow; name an instance: flow = {value.__name__}(...)"
        )
    try:
        return as_step(value)
    except FlowBuildError as error:
        raise MillraceError(f"{target} is no flow: {error}") from error


def _described(value: Any) -> str:
    if isinstance(value, ModuleType):
        return "a module"
    return "None" if value is None else f"{type(value).__name__} {value!r:.40}"
