"""Writes constraints.txt: the versions in this environment of everything that millrace[all,dev,bench] pulls in.

What the environment holds beside that is left out, and local versions (`2.13.0+cpu`) lose their local part,
so that the file holds on every machine.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# The tested versions of everything that `millrace[all,dev,bench]` installs; every install of ours is held to them.
# Written by `make constraints`.
"""


def closure(name: str, extras: frozenset[str]) -> dict[str, str]:
    """The installed versions of a distribution's requirements, and of theirs, by canonical name.

    Raises:
        importlib.metadata.PackageNotFoundError: a requirement is not installed.
    """
    versions: dict[str, str] = {}
    todo, seen = [(name, extras)], set()
    while todo:
        current, wanted = todo.pop()
        if (current, wanted) in seen:
            continue
        seen.add((current, wanted))
        distribution = importlib.metadata.distribution(current)
        versions[current] = Version(distribution.version).public
        for line in distribution.requires or []:
            requirement = Requirement(line)
            if applies(requirement, wanted):
                todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return versions


def applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    """Whether a requirement holds here, with any of these extras or with none."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def render() -> str:
    """The text of constraints.txt."""
    versions = closure("millrace", frozenset({"all", "dev", "bench"}))
    del versions["millrace"]
    versions["setuptools"] = importlib.metadata.version(
        "setuptools"
    )  # builds the package, so it is tested too
    return HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))


if __name__ == "__main__":
    (ROOT / "constraints.txt").write_text(render(), encoding="utf-8")
