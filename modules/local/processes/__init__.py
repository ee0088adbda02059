"""The engine in a process of its own: one busy Python thread beside it cannot slow it, and its crash ends nobody else.

A parent's `ProcessWorker` and a child's `ChildWorker` speak over one socket pair, in frames of JSON.
"""

from .workers import ProcessWorker

__all__ = ["ProcessWorker"]
