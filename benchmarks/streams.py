"""Streams that outlive their process: the file queue beside its alternatives, in the same run."""

from __future__ import annotations

from typing import Any

from benchmarks import recordings, segments


def run() -> list[dict[str, Any]]:
    return [*segments.rows(), *recordings.rows()]


if __name__ == "__main__":
    from benchmarks.tables import table

    print(table(run()))
