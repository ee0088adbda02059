"""What a run says, and how it travels: errors, sessions, runs, events, messages, queues, streams."""

from typing import TYPE_CHECKING, Any

from .attachments import Attachment, attach
from .currents import cancelled, check_cancelled, current_run, current_session, emit, status
from .errors import (
    AdmissionError,
    ContextLengthExceeded,
    EventsExpired,
    FlowBuildError,
    FlowCallError,
    MillraceError,
    MissingExtra,
    ModelError,
    Overloaded,
    QueueError,
    QueueFull,
    RemoteError,
    RequestRefused,
    RunCancelled,
    RunTimeout,
    RunUnknown,
    SessionBusy,
    SessionError,
    WriterLost,
)
from .events import (
    Data,
    Event,
    Logprobs,
    Progress,
    ReasoningDelta,
    RunFinished,
    RunStarted,
    StatusChanged,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from .histories import forget_session, session_history
from .limits import Limits
from .messages import Message
from .named_files import NamedFile
from .options import Options
from .queues import Queue, RunInfo, open_queue
from .readers import Reader
from .registries import MemoryQueue
from .runs import Run
from .sessions import session
from .starting import start
from .streams import Stream
from .usage import TokenUsage

if TYPE_CHECKING:
    from .file_queues import FileQueue

__all__ = [
    "AdmissionError",
    "Attachment",
    "ContextLengthExceeded",
    "Data",
    "Event",
    "EventsExpired",
    "FileQueue",
    "FlowBuildError",
    "FlowCallError",
    "Limits",
    "Logprobs",
    "MemoryQueue",
    "Message",
    "MillraceError",
    "MissingExtra",
    "ModelError",
    "NamedFile",
    "Options",
    "Overloaded",
    "Progress",
    "Queue",
    "QueueError",
    "QueueFull",
    "Reader",
    "ReasoningDelta",
    "RemoteError",
    "RequestRefused",
    "Run",
    "RunCancelled",
    "RunFinished",
    "RunInfo",
    "RunStarted",
    "RunTimeout",
    "RunUnknown",
    "SessionBusy",
    "SessionError",
    "StatusChanged",
    "StepFinished",
    "StepStarted",
    "Stream",
    "TextDelta",
    "TokenUsage",
    "ToolCall",
    "ToolCallDelta",
    "ToolResult",
    "Usage",
    "WriterLost",
    "attach",
    "cancelled",
    "check_cancelled",
    "current_run",
    "current_session",
    "emit",
    "forget_session",
    "open_queue",
    "session",
    "session_history",
    "start",
    "status",
]


def __getattr__(name: str) -> Any:
    """FileQueue is imported at its first use, with all that files need."""
    if name == "FileQueue":
        from .file_queues import FileQueue

        return FileQueue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
