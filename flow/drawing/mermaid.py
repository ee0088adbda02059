"""A diagram as Mermaid text (https://mermaid.js.org, flowchart), for pages that render it themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from .diagrams import Chain, Fork, Group, Leaf, Net, Part

__all__ = ["mermaid_of"]

CLASSES = {
    "stream": "stroke:#0b7285,stroke-width:2px",
    "module": "stroke:#5f3dc4,stroke-width:2px",
    "decision": "stroke:#e67700",
    "group": "fill:none,stroke-dasharray:4 4",
}
"""How kinds of nodes look, on light and on dark pages."""


PERCENT = "\\u0025"
"""Two of them would begin a directive, also inside of a title."""


class End(NamedTuple):
    """A node that an edge begins or ends at, with the words on it."""

    node: str
    words: str | None = None
    live: bool = False


class Piece(NamedTuple):
    """What has been written of a part: where edges to it end, and where those from it begin."""

    starts: Sequence[End]
    ends: Sequence[End]


def mermaid_of(diagram: Part, heading: str) -> str:
    """The diagram as a Mermaid flowchart; `heading`, if any, stands over it."""
    writer = _Writer()
    writer.part(diagram)
    kinds = [f"classDef {kind} {look}" for kind, look in CLASSES.items() if kind in writer.kinds]
    kinds += [f"class {','.join(names)} {kind}" for kind, names in writer.kinds.items() if kind in CLASSES]
    body = "".join(f"    {line}\n" for line in (*writer.nodes, *writer.edges, *kinds))
    title = f"---\ntitle: {json.dumps(heading).replace('%', PERCENT)}\n---\n" if heading else ""
    return f"{title}flowchart TB\n{body}"


class _Writer:
    """Writes nodes n1, n2, ... and groups g3, g4, ... .

    Edges stand behind all of them, so that none pulls its nodes into a group.
    """

    def __init__(self) -> None:
        self.nodes: list[str] = []
        self.edges: list[str] = []
        self.kinds: dict[str, list[str]] = {}
        self.indent = ""

    def part(self, part: Part) -> Piece | None:
        """Writes a part; None where there is nothing to write."""
        match part:
            case Leaf():
                name = self._node(part)
                return Piece([End(name)], [End(name)])
            case Chain():
                return self._chain(part)
            case Fork():
                return self._fork(part)
            case Group():
                return self._group(part)
            case Net():
                return self._net(part)

    def _name(self, kind: str, prefix: str) -> str:
        names = self.kinds.setdefault(kind, [])
        name = f"{prefix}{sum(map(len, self.kinds.values())) + 1}"
        names.append(name)
        return name

    def _node(self, leaf: Leaf) -> str:
        name = self._name(leaf.kind, "n")
        left, right = {"end": ("([", "])"), "decision": ("{{", "}}")}.get(leaf.kind, ("[", "]"))
        text = "<br/>".join(map(_escaped, (leaf.title, *leaf.details)))
        self.nodes.append(f'{self.indent}{name}{left}"{text}"{right}')
        return name

    def _join(self, ends: Sequence[End], starts: Sequence[End], live: bool = False) -> None:
        for end in ends:
            for start in starts:
                comes = live or start.live
                words = start.words or end.words or ("live" if comes else None)
                label = f"|{_quoted(words)}|" if words else ""
                self.edges.append(f"{end.node} {'==>' if comes else '-->'}{label} {start.node}")

    def _chain(self, chain: Chain) -> Piece | None:
        first: Piece | None = None
        last: Piece | None = None
        for part, live in zip(chain.parts, chain.live, strict=True):
            piece = self.part(part)
            if piece is None:
                continue
            if last is not None:
                self._join(last.ends, piece.starts, live)
            first, last = first or piece, piece
        return None if first is None or last is None else Piece(first.starts, last.ends)

    def _fork(self, fork: Fork) -> Piece:
        starts, ends = list[End](), list[End]()
        for branch in fork.branches:
            piece = self.part(branch.part) or self.part(Leaf("as it is", kind="end"))
            assert piece is not None
            starts += [End(node, branch.label or words, branch.live) for node, words, _ in piece.starts]
            ends += [End(node, fork.joined or words) for node, words, _ in piece.ends]
        return Piece(starts, ends)

    def _group(self, group: Group) -> Piece | None:
        if group.title is not None:
            self.nodes.append(f"{self.indent}subgraph {self._name('group', 'g')}[{_quoted(group.title)}]")
            self.indent += "    "
        piece = self.part(group.inner) or self.part(Leaf("as it is", kind="end"))
        assert piece is not None
        if group.title is not None:
            self.indent = self.indent[4:]
            self.nodes.append(f"{self.indent}end")
        if group.turns:
            self.edges += [
                f"{end.node} -.->|again| {start.node}" for end in piece.ends for start in piece.starts
            ]
        return piece

    def _net(self, net: Net) -> Piece:
        pieces = [self.part(node) or self.part(Leaf("as it is", kind="end")) for node in net.nodes]
        starts, ends = list[End](), list[End]()
        for link in net.links:
            source = pieces[link.source] if link.source >= 0 else None
            target = pieces[link.target] if link.target < len(pieces) else None
            if source is not None and target is not None:
                self._join(source.ends, target.starts, link.live)
            elif target is not None:
                starts += [End(node, words, link.live) for node, words, _ in target.starts]
            elif source is not None:
                ends += source.ends
            else:
                name = self._node(Leaf("as it is", kind="end"))
                starts.append(End(name))
                ends.append(End(name))
        return Piece(starts, ends)


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


MEANT = frozenset('"#<>&;:`%$\\*')
"""Signs that mean something to Mermaid inside of a quoted text."""


def _escaped(text: str) -> str:
    """As Mermaid's entities: what means something to it, and what would begin a list."""
    found = "".join(f"#{ord(one)};" if one in MEANT else one for one in text)
    if re.match(r"\d+[.)]|[-+_]", found):
        found = re.sub(r"^(\d*)(.)", lambda match: f"{match[1]}#{ord(match[2])};", found)
    return found
