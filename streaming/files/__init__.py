"""A store of append-only segments: one directory, one file for each run, written by one process, read by any."""

from .readers import SegmentReader
from .stores import FileStore, RunEntry
from .writers import SegmentWriter

__all__ = ["FileStore", "RunEntry", "SegmentReader", "SegmentWriter"]
