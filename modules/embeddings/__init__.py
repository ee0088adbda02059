"""Texts to vectors: an encoder on this machine, or a server's; many requests at once, each of which can be stopped."""

from .engines import EmbeddingEngine
from .jobs import Embedded, EmbeddingJob, Vector
from .remote_engines import RemoteEmbeddingEngine
from .sources import Pooling

__all__ = ["Embedded", "EmbeddingEngine", "EmbeddingJob", "Pooling", "RemoteEmbeddingEngine", "Vector"]
