"""How types go through each kind of flow, as values do in a run."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .annotations import read_function
from .args import Args
from .arguments import UNKNOWN, Given, plain_problems
from .bindings import BoundFlow
from .checks import Rule, Walk, title_of
from .fans import Fan
from .fitting import fits
from .graph import Graph
from .hints import (
    MISSING,
    Named,
    Several,
    class_of,
    describe,
    elements_of,
    item_of,
    members_of,
    row_of,
    union_of,
)
from .loop import Loop
from .parallel import Diverter, Parallel
from .pipeline import Pipeline
from .policies.fallbacks import FallingBack
from .policies.wrapping import PolicyStep
from .switch import Switch
from .warps import Warp
from .wiring import Inputs

__all__ = ["RULES"]


def through_pipeline(walk: Walk, flow: Pipeline[Any, Any], given: Given, name: str) -> Rule:
    kept = {"input": given}
    if flow.kept:
        walk.scope[flow.scope] = kept
    for step, label, said in zip(flow.steps, flow.labels, flow.names, strict=True):
        given = kept[label] = yield step, given, said or title_of(step)
    if flow.kept:
        del walk.scope[flow.scope]
    return given


def through_bound_flow(walk: Walk, flow: BoundFlow, given: Given, name: str) -> Rule:
    args, _ = walk.arguments(flow.binding, given, name)
    if args is None:
        return (yield flow.inner, UNKNOWN, name)
    if len(args) == 1:
        return (yield flow.inner, args[0], name)
    several = Several(tuple(one.value for one in args))
    return (yield flow.inner, Given(several, several, f"bind({name}, ...)"), name)


def through_policies(walk: Walk, flow: PolicyStep[Any, Any], given: Given, name: str) -> Rule:
    gives = yield flow.inner, given, name
    if isinstance(flow, FallingBack):
        other = yield flow.fallback, given, f"{title_of(flow.fallback)} (fallback of {name})"
        gives = Given(union_of([gives.value, other.value]), union_of([gives.pieces, other.pieces]), name)
    return gives


# ---------------------------------------------------------------- parallel work


def through_parallel(walk: Walk, flow: Parallel[Any, Any], given: Given, name: str) -> Rule:
    if flow.kept:
        walk.scope[flow.scope] = {"input": given}
    if flow.choose is not None:
        yield flow.choose, given, "choose"
    inputs = [given] * len(flow.steps) if flow.shared else _diverted(walk, flow, given, name)
    found: list[Any] = []
    for i in flow.chosen:
        gives = yield flow.steps[i], inputs[i], _label(flow, i)
        found.append(_or_error(flow, gives.value))
    if flow.kept:
        del walk.scope[flow.scope]
    value: Any = Several(tuple(found))
    if flow.keys is not None:
        value = Named(tuple((flow.keys[i], hint) for i, hint in zip(flow.chosen, found, strict=True)))
    if flow.choose is not None:  # how many there will be is not known
        value = types.GenericAlias(dict, (str, union_of(found))) if flow.keys is not None else Args
    return (yield from _collected(walk, flow, Given(value, value, name), name))


def _label(flow: Parallel[Any, Any], i: int) -> str:
    label = flow.labels[i]
    return label if isinstance(label, str) else title_of(flow.steps[i])


def _diverted(walk: Walk, flow: Parallel[Any, Any], given: Given, name: str) -> list[Given]:
    """What each branch of a Diverter is given."""
    count, keys = len(flow.steps), flow.keys
    by = f"an item of {given.by}" if given.by is not None else None
    if given.value is Any:
        return [UNKNOWN] * count
    if keys is not None:
        items = [item_of(given.value, key) for key in keys]
        odd = MISSING in items or (isinstance(given.value, Named) and len(given.value.items) != count)
        fitting, wanted = not odd and fits(given.value, dict), f"a dict with {', '.join(keys)}"
    else:
        row = row_of(given.value)
        items = list(row) if row is not None else [elements_of(given.value)] * count
        fitting = len(items) == count and (fits(given.value, tuple) or fits(given.value, list))
        wanted = f"one item for each of its {count} branches"
    if not fitting:
        who = given.by or "its caller"
        walk.report([f"{who} gives {describe(given.value)}, and {name} takes {wanted}"])
        return [UNKNOWN] * count
    return [Given(item, item, by) for item in items]


def through_warp(walk: Walk, flow: Warp[Any, Any], given: Given, name: str) -> Rule:
    members = [one for one in members_of(given.value) if fits(one, Iterable) and not _is_text(one)]
    if not members:
        who = given.by or "its caller"
        walk.report(
            [
                f"{who} gives {describe(given.value)}, and {name} takes an iterable of items: "
                "give it a list, or take the Warp away"
            ]
        )
    item = union_of(elements_of(member) for member in members)
    by = f"an item of {given.by}" if given.by is not None else None
    gives = yield flow.inner, Given(item, item, by), title_of(flow.inner)
    value = types.GenericAlias(list, (_or_error(flow, gives.value),))
    return (yield from _collected(walk, flow, Given(value, value, name), name))


def _is_text(hint: Any) -> bool:
    kind = class_of(hint)
    return kind is not None and issubclass(kind, (str, bytes))


def _or_error(flow: Fan[Any, Any] | Graph[Any, Any], hint: Any) -> Any:
    return union_of([hint, Exception]) if flow.on_error == "keep" else hint


def _collected(walk: Walk, flow: Fan[Any, Any], given: Given, name: str) -> Rule:
    if flow.collect is not None:
        value = _collect(walk, flow.collect, given, name)
        given = Given(value, value, name)
    if flow.post is not None:
        given = yield flow.post, given, "post"
    return given


def _collect(walk: Walk, collect: Callable[[Any], Any], given: Given, name: str) -> Any:
    """What `collect` makes of the results, which it is given as one value."""
    results = given.value
    items = types.GenericAlias(list, (elements_of(results),))
    if collect is list:
        return items
    if collect is tuple or collect is dict:
        return results if not isinstance(results, Several) else tuple[results.items]  # type: ignore[name-defined]
    if inspect.isbuiltin(collect) and isinstance(collect.__self__, str) and collect.__name__ == "join":
        texts = inspect.Signature([inspect.Parameter("texts", POSITIONAL, annotation=Iterable[str])])
        several = types.GenericAlias(tuple, results.items) if isinstance(results, Several) else items
        walk.report(plain_problems("join", texts, Given(several, several, name), unpacked=False))
        return str
    reading = read_function(collect)
    if reading.signature is not None:
        called = getattr(collect, "__name__", type(collect).__name__)
        found = [
            list(plain_problems(called, reading.signature, Given(value, value, name), unpacked=False))
            for value in _forms(results, items)
        ]
        fewest = min(found, key=len)
        walk.report(fewest)
    return reading.value


def _forms(results: Any, items: Any) -> list[Any]:
    """As what a function may be annotated to take the results: Args are a tuple, and may be called a list."""
    if isinstance(results, Several):
        return [types.GenericAlias(tuple, results.items), items]
    return [results, items] if results is Args else [results]


POSITIONAL = inspect.Parameter.POSITIONAL_ONLY


# ---------------------------------------------------------------- branches and turns


def through_switch(walk: Walk, flow: Switch[Any, Any], given: Given, name: str) -> Rule:
    seen = given
    if flow.key is not None:
        seen = yield flow.key, given, flow.key.name or "key"
    for i, (test, label) in enumerate(zip(flow.tests, flow.names, strict=False)):  # the default has no test
        before = len(walk.problems)
        yield test, seen, label
        if i and len(walk.problems) > before:  # it is asked only about what the tests before it have left
            del walk.problems[before:]
            yield test, UNKNOWN, label
    before, found, misfits = len(walk.problems), [], []
    for branch, label in zip(flow.branches, flow.names, strict=True):
        found.append((yield branch, given, _branch_name(branch, label)))
        if len(walk.problems) > before:
            misfits.append((branch, label, walk.problems[before:]))
            del walk.problems[before:]
    if len(misfits) == len(flow.branches):
        walk.problems += [problem for *_, problems in misfits for problem in problems]
    else:  # what reaches these is only some of the values, perhaps none
        for branch, label, _ in misfits:
            yield branch, UNKNOWN, _branch_name(branch, label)
    if len(found) == 1:
        return found[0]
    return Given(union_of(one.value for one in found), union_of(one.pieces for one in found), name)


def _branch_name(branch: Any, label: str) -> str:
    return f"{title_of(branch)} (case {label})"


def through_loop(walk: Walk, flow: Loop[Any, Any], given: Given, name: str) -> Rule:
    label = title_of(flow.body)
    gives = yield flow.body, given, label
    if flow.count != 1 and gives.value is not Any:
        turned = gives._replace(by=f"{gives.by}, in the turn before,")
        yield flow.body, turned, label
    if flow.until is not None:
        yield flow.until, gives, flow.until.name or "until"
    return gives


# ---------------------------------------------------------------- graphs


def through_graph(walk: Walk, flow: Graph[Any, Any], given: Given, name: str) -> Rule:
    values = {"input": given}
    values |= {
        key: Given(type(fixed), type(fixed), f"the constant {key}") for key, fixed in flow.constants.items()
    }
    if not flow.nodes:
        return UNKNOWN
    walk.scope[flow.scope] = values
    for label, step in flow.in_order():
        gives = yield step, _of_edges(walk, flow, values, label), label
        values[label] = gives._replace(value=_or_error(flow, gives.value))
    gives = _of_edges(walk, flow, values, "output")
    del walk.scope[flow.scope]
    return gives


def _of_edges(walk: Walk, flow: Graph[Any, Any], values: Mapping[str, Given], target: str) -> Given:
    """What goes into a node of a graph."""
    inputs = Inputs.of(flow.edges, target)
    found = [
        walk.argument(source.reference, None, UNKNOWN, target)
        if source.name is None
        else walk.part(values[source.name], source.tail, source.reference, target)
        for source in inputs.sources
    ]
    if inputs.single:
        return found[0]
    if not found:  # it takes its values by reference
        return UNKNOWN
    several = Several(tuple(one.value for one in found))
    return Given(several, several, " and ".join(dict.fromkeys(str(one.by or "the input") for one in found)))


RULES: Mapping[type, Callable[[Walk, Any, Given, str], Rule]] = {
    Pipeline: through_pipeline,
    BoundFlow: through_bound_flow,
    Parallel: through_parallel,
    Diverter: through_parallel,
    Warp: through_warp,
    Switch: through_switch,
    Loop: through_loop,
    Graph: through_graph,
    PolicyStep: through_policies,
}
"""By the class; If is a Switch."""
