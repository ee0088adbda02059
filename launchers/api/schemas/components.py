"""Components: the schemas that a document names, and what pydantic has named moved among them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count
from typing import Any

__all__ = ["Components", "Schema"]

Schema = dict[str, Any]

REF = "#/components/schemas/"
DEFS = "#/$defs/"

DATA = ("const", "default", "enum", "example", "examples")
"""Keywords whose values are no schemas, whatever they look like."""

NAMED = ("dependentSchemas", "mapping", "patternProperties", "properties")
"""Keywords whose values are schemas by names, which are no keywords."""


class Components(dict[str, Schema]):
    """Schemas by name. Where a name is taken by something else, the later one gets a number behind it."""

    def __init__(self, schemas: Mapping[str, Schema] | None = None) -> None:
        super().__init__(schemas or {})
        self._held: set[str] = set()

    def hold(self, *names: str) -> None:
        """Keeps names free for `name`."""
        self._held.update(names)

    def name(self, name: str, schema: Schema) -> Schema:
        """Keeps a schema under a name, and returns what stands for it elsewhere."""
        self._held.discard(name)
        return self.adopt({"$ref": DEFS + name, "$defs": {name: schema}})

    def adopt(self, schema: Schema) -> Schema:
        """A schema with `$defs`, as pydantic writes it, made one without: they stand here now."""
        defs = schema.get("$defs", {})
        plain = names = {name: re.sub(r"[^A-Za-z0-9._-]", "_", name) for name in defs}
        for number in count(2):
            moved = {name: _moved(found, names) for name, found in defs.items()}
            taken = [name for name in defs if self._is_taken(name, names, moved[name])]
            if not taken:
                break
            names = names | {name: f"{plain[name]}-{number}" for name in taken}
        self.update({names[name]: found for name, found in moved.items()})
        return {key: _value(key, part, names) for key, part in schema.items() if key != "$defs"}

    def _is_taken(self, name: str, names: Mapping[str, str], moved: Schema) -> bool:
        new = names[name]
        first = next(other for other in names if names[other] == new)
        return first != name or new in self._held or self.get(new, moved) != moved


def _moved(part: Any, names: Mapping[str, str]) -> Any:
    """A schema, or a part of one, that points to the definitions by their new names."""
    if isinstance(part, dict):
        return {key: _value(key, item, names) for key, item in part.items()}
    if isinstance(part, list):
        return [_moved(item, names) for item in part]
    if isinstance(part, str) and part.startswith(DEFS):
        name = part.removeprefix(DEFS)
        return REF + names.get(name, name)
    return part


def _value(key: str, value: Any, names: Mapping[str, str]) -> Any:
    """What stands behind a keyword."""
    if key in DATA:
        return value
    if key in NAMED and isinstance(value, dict):
        return {name: _moved(item, names) for name, item in value.items()}
    return _moved(value, names)
