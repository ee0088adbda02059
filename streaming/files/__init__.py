"""A store of append-only segments: one directory, one file for each run, written by one process, read by any."""

import os

if os.name != "posix":
    raise ImportError("runs in files need a POSIX system, such as Linux or macOS; use memory:// here")

from .entries import RunEntry
from .readers import SegmentReader
from .stores import FileStore
from .writers import SegmentWriter

__all__ = ["FileStore", "RunEntry", "SegmentReader", "SegmentWriter"]
