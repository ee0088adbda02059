"""Checks of a flow before it runs: it is walked with types where a run would have values.

Refused is only what cannot work: a call with too few or too many arguments, neighbours whose annotated types have no
value in common, a name that is not there. What is not annotated passes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from ..streaming.errors import FlowBuildError
from .annotations import read_step
from .arguments import UNKNOWN, Given, bound_problems, incoming, plain_problems
from .bindings import Arg, Binding
from .depths import refuse_depth
from .flows import Flow, label_of
from .functions import FunctionStep, WholeStep
from .hints import MISSING, Named, attribute_of, describe, item_of
from .references import Reference, Tail, parts_of
from .steps import Step

__all__ = ["Question", "Rule", "Walk", "check_flow", "refuse_misfits", "title_of"]

Question = tuple[Step[Any, Any], Given, str]
"""A step inside of a flow, what reaches it, and what messages call it."""

Rule = Generator[Question, Given, Given]
"""How types go through a kind of flow: asks what its steps give, and returns what it gives itself."""

Key = tuple[Given, str]
KNOWN: WeakKeyDictionary[Step[Any, Any], dict[Key, Given]] = WeakKeyDictionary()
"""What flows without a problem give, by what they are given: a flow in a flow in a flow is walked once."""


def refuse_misfits(flow: Step[Any, Any]) -> None:
    """What each flow asks when it is built.

    Raises:
        FlowBuildError: all that is certain to be wrong with it.
    """
    refuse_depth(flow)
    walk = Walk()
    walk.through(flow, UNKNOWN)
    walk.complain(flow)


def check_flow(flow: Step[Any, Any], given: Any = Any) -> None:
    """Checks a flow that is not part of another one, and is called with a value of the type `given`.

    Raises:
        FlowBuildError: all problems, numbered.
    """
    refuse_open(flow, "checked")
    walk = Walk(whole=True)
    walk.through(flow, Given(given, given, None))
    walk.complain(flow)


def refuse_open(flow: Step[Any, Any], done: str) -> None:
    """Raises: FlowBuildError, inside of the block that writes the flow."""
    if vars(flow).get("unfinished") is True:
        raise FlowBuildError(
            f"a flow cannot be {done} inside of the block that writes it; do it after the block"
        )


class Frame(NamedTuple):
    """A flow that the walk is in."""

    rule: Rule
    flow: Step[Any, Any]
    key: Key
    before: int
    """How many problems there were."""
    outside: set[object]
    """Flows around it that it refers to."""


class Walk:
    """One walk through a flow; what is wrong with it is in `problems`.

    `whole`: it is the outermost flow, so that all references must be to it or to flows in it. Then nothing is taken
    over from earlier walks, and annotations that could not be resolved are read again.
    """

    def __init__(self, whole: bool = False) -> None:
        self.whole = whole
        self.problems: list[str] = []
        self.scope: dict[object, dict[str, Given]] = {}
        self.stack: list[Frame] = []

    def complain(self, flow: Step[Any, Any]) -> None:
        problems = list(dict.fromkeys(self.problems))
        if len(problems) == 1:
            raise FlowBuildError(f"{title_of(flow)}: {problems[0]}")
        if problems:
            lines = "".join(f"\n  {i}. {problem}" for i, problem in enumerate(problems, 1))
            raise FlowBuildError(f"{title_of(flow)} has {len(problems)} problems:{lines}")

    def report(self, problems: Iterable[str]) -> None:
        found = list(problems)
        if found:
            place = " > ".join(frame.key[1] for frame in self.stack[1:] if isinstance(frame.flow, Flow))
            self.problems += [f"in {place}: {problem}" if place else problem for problem in found]

    # ------------------------------------------------------------ walking

    def through(self, step: Step[Any, Any], given: Given) -> Given:
        """What `step` gives. The flows that the walk is in stand on a stack of its own: nesting has no limit."""
        answer = self._enter(step, given, title_of(step))
        while self.stack:
            frame = self.stack[-1]
            try:
                question = next(frame.rule) if answer is None else frame.rule.send(answer)
            except StopIteration as end:
                answer = self._leave(frame, end.value)
            else:
                answer = self._enter(*question)
        assert answer is not None
        return answer

    def _enter(self, step: Step[Any, Any], given: Given, name: str) -> Given | None:
        """What the step gives, where that is known at once."""
        rule = rule_of(type(step))
        if rule is None:
            return self._call(step, given, name)
        key = (given, name)
        known = None if self.whole else _known(step, key)
        if known is None:
            self.stack.append(Frame(rule(self, step, given, name), step, key, len(self.problems), set()))
        return known

    def _leave(self, frame: Frame, gives: Given) -> Given:
        self.stack.pop()
        outside = frame.outside - {getattr(frame.flow, "scope", None)}
        if self.stack:
            self.stack[-1].outside.update(outside)
        if not (outside or self.whole or len(self.problems) > frame.before):
            _remember(frame.flow, frame.key, gives)
        return gives

    # ------------------------------------------------------------ one step

    def _call(self, step: Step[Any, Any], given: Given, name: str) -> Given:
        if isinstance(step, WholeStep):
            return given
        reading = read_step(step, self.whole)
        binding = step.resolve if isinstance(step, FunctionStep) else None
        if isinstance(binding, Binding):
            args, kwargs = self.arguments(binding, given, name, step.live)
            if reading.signature is not None:
                live = given if step.live else None
                self.report(
                    bound_problems(name, reading.signature, args, kwargs, live, binding.leaves_upstream)
                )
        elif binding is None and reading.signature is not None:
            self.report(plain_problems(name, reading.signature, given, step.live))
        return Given(reading.value, reading.pieces, name)

    def arguments(
        self, binding: Binding, given: Given, name: str, live: bool = False
    ) -> tuple[Sequence[Given] | None, dict[str, Given]]:
        """What a bound step is called with; the positional arguments are None where their number is not known.

        `live`: it takes what comes in live, as one value.
        """
        first = [given] if live else incoming(given)
        args = [self.argument(value, first, given, name) for value in binding.args]
        kwargs = {key: self.argument(value, first, given, name) for key, value in binding.kwargs.items()}
        if not binding.upstream_first:
            return args, kwargs
        return None if first is None else [*first, *args], kwargs

    def argument(self, value: Any, values: Sequence[Given] | None, given: Given, name: str) -> Given:
        if isinstance(value, Reference):
            found = self._referred(value, name)
            return found._replace()  # a value of its own, also where its step is the one before
        if not isinstance(value, Arg):
            return Given(type(value), type(value), f"bind({name}, {value!r:.30})")
        if values is None:
            return UNKNOWN
        if value.index < len(values):
            return values[value.index]
        self.report([f"bind({name}, {value!r}): only {len(values)} come in, from {given.by}"])
        return UNKNOWN

    def _referred(self, reference: Reference, name: str) -> Given:
        key, step, tail = parts_of(reference)
        values = self.scope.get(key)
        if self.stack:
            self.stack[-1].outside.add(key)
        if values is not None and step in values:
            return self.part(values[step], tail, reference, name)
        if values is not None or self.whole:
            self.report(
                [
                    f"{name} refers to {reference!r}, which is not known there: it must be a step before it, "
                    "in the same flow or in one around it"
                ]
            )
        return UNKNOWN

    def part(self, given: Given, tail: Tail, reference: Reference, name: str) -> Given:
        """What a reference with this tail takes of a value."""
        hint = given.value
        for item, key in tail:
            found = item_of(hint, key) if item else attribute_of(hint, key)
            if found is MISSING:
                by = given.by or "its caller"
                cure = f': write ["{key}"]' if isinstance(hint, Named) and not item else ""
                self.report([f"{name} refers to {reference!r}, and {by} gives {describe(hint)}{cure}"])
                return UNKNOWN
            hint = found
        return Given(hint, hint, repr(reference)) if tail else given


def _known(flow: Step[Any, Any], key: Key) -> Given | None:
    try:
        return KNOWN.get(flow, {}).get(key)
    except TypeError:  # an annotation that cannot be hashed
        return None


def _remember(flow: Step[Any, Any], key: Key, gives: Given) -> None:
    try:
        KNOWN.setdefault(flow, {})[key] = gives
    except TypeError:
        return


LONGEST = 60
"""Characters of a flow without a name in messages."""


def title_of(step: Step[Any, Any]) -> str:
    """The step's name; without one, what it is made of."""
    if step.name is not None:
        return step.name
    kind = type(step).__name__.removeprefix("Open")
    inside = ", ".join(label_of(child) for child in step.children())
    text = f"{kind}({inside})"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]}...)"


FOUND: dict[type, Callable[[Walk, Any, Given, str], Rule] | None] = {}


def rule_of(kind: type) -> Callable[[Walk, Any, Given, str], Rule] | None:
    """How types go through a kind of flow; None for a step that is not one."""
    if kind not in FOUND:
        from .rules import RULES  # it knows all flows, and they know this module

        FOUND[kind] = next((RULES[base] for base in kind.__mro__ if base in RULES), None)
    return FOUND[kind]
