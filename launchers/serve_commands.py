"""`millrace chat` and `millrace serve`: a flow in front of users, in one process or in several."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from ..flow.steps import Step
from ..streaming.errors import MillraceError, MissingExtra
from ..streaming.limits import Limits
from .exits import MISTAKEN, complain, errors
from .run_commands import named_queue
from .run_lines import LogFormat, print_runs
from .targets import DEMO, load_target
from .web.archives import USUAL

__all__ = ["TARGET", "DemoTarget", "chat", "load", "serve"]

TARGET = "module:attribute that names a flow, as in app:flow"

Target = Annotated[str, typer.Argument(metavar="app:flow", help=TARGET + ".")]
DemoTarget = Annotated[str, typer.Argument(metavar="app:flow", help=TARGET + ". [default: the demo]")]
Host = Annotated[str, typer.Option(help="Address to listen on; others than this machine's need --api-keys.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)]
Running = Annotated[int, typer.Option(help="How many requests run at once.", min=1)]
Waiting = Annotated[int, typer.Option(help="How many more wait; beyond, they are refused.", min=0)]
Keys = Annotated[
    str | None, typer.Option(metavar="FILE", help="File of API keys, or env:NAME; then all must give one.")
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Serve other machines without keys.")]
Title = Annotated[str | None, typer.Option(help="Name of the flow in the chat.")]
Timeout = Annotated[float, typer.Option(help="Deadline of a run in seconds.", min=0.001)]
Kept = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Where the chat keeps conversations; none: in memory. [default: in the user's data directory]",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the text of errors to clients too.")]
RunLines = Annotated[
    LogFormat, typer.Option("--log-format", help="How each run is told on stderr, at its end.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Tell nothing of runs.")]


def chat(
    target: DemoTarget = DEMO,
    host: Host = "127.0.0.1",
    port: Port = 7860,
    running: Running = 4,
    waiting: Waiting = 16,
    api_keys: Keys = None,
    insecure: Insecure = False,
    title: Title = None,
    timeout: Timeout = 600.0,
    conversations: Kept = None,
    debug: Debug = False,
) -> None:
    """Open a flow as a web chat; the API is under /v1, in the same process."""
    with errors(debug):
        _serve(
            target,
            host=host,
            port=port,
            limits=Limits(running=running, waiting=waiting),
            api_keys=api_keys,
            insecure=insecure,
            title=title,
            default_timeout=timeout,
            conversations=conversations,
            debug=debug,
            chat=True,
        )


def serve(
    target: Target,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[
        int,
        typer.Option(
            help="How many processes serve; --running and --waiting hold for each. No chat then.", min=1
        ),
    ] = 1,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again whenever a Python file of the flow's has changed.")
    ] = False,
    queue: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Keep runs for clients that come back, as in file:///a/directory."),
    ] = None,
    on_disconnect: Annotated[
        Literal["cancel", "continue"], typer.Option(help="What becomes of the run of a client that leaves.")
    ] = "cancel",
    events: Annotated[
        Literal["output", "all"],
        typer.Option(help="What clients may see of a run: its answer, or what every step says."),
    ] = "output",
    running: Running = 4,
    waiting: Waiting = 16,
    api_keys: Keys = None,
    insecure: Insecure = False,
    title: Title = None,
    timeout: Timeout = 600.0,
    conversations: Kept = None,
    debug: Debug = False,
    no_chat: Annotated[bool, typer.Option("--no-chat", help="Serve the API alone.")] = False,
    log_format: RunLines = LogFormat.TEXT,
    quiet: Quiet = False,
) -> None:
    """Serve a flow as an OpenAI-compatible API under /v1, with the web chat at /."""
    lines = None if quiet else log_format
    if reload and workers > 1:
        raise typer.BadParameter("--reload serves with one worker; leave out --workers")
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "limits": Limits(running=running, waiting=waiting),
        "api_keys": api_keys,
        "insecure": insecure,
        "title": title,
        "default_timeout": timeout,
        "debug": debug,
        "chat": not no_chat and workers == 1,
        "on_disconnect": on_disconnect,
        "events": events,
    }
    if queue is not None:
        options["queue"] = named_queue(queue)
    if reload and options["chat"] and conversations != "none":
        options["conversations"] = conversations or USUAL
    with errors(debug):
        print_runs(lines)
        if workers > 1 or reload:
            _supervise(target, workers, reload, options, lines)
        else:
            _serve(target, conversations=conversations, **options)


def _serve(target: str, conversations: str | None, **options: Any) -> None:
    from .loading import loading_stage
    from .services import serve
    from .terminals import Loading
    from .web.archives import usual_folder

    flow = load(target)
    if conversations is None:
        options["conversations"] = usual_folder(flow.name)
    elif conversations != "none":
        options["conversations"] = conversations
    with Loading(lambda: loading_stage(flow), chat=options["chat"]) as loading:
        serve(flow, announce=loading.announce, tell=loading.tell, **options)


def _supervise(
    target: str, workers: int, reload: bool, options: dict[str, Any], lines: LogFormat | None
) -> None:
    from .processes.choices import supervisor_for
    from .processes.supervisors import StartFailed
    from .terminals import Loading

    supervisor = supervisor_for(target, workers, reload, options)
    supervisor.run_lines = None if lines is None else lines.value
    ready = "Ready; waiting for changes." if reload else f"{workers} workers are ready."
    try:
        with Loading(supervisor.stage, options["chat"], ready) as loading:
            supervisor.tell = loading.tell
            supervisor.run(loading.announce)
    except StartFailed as error:
        if not error.mistaken:
            raise
        complain(error)
        raise typer.Exit(MISTAKEN) from None


def load(target: str) -> Step[Any, Any]:
    """The flow; what is wrong with the target is a mistake in the command, so it ends with 2."""
    try:
        return load_target(target)
    except MissingExtra:
        raise
    except MillraceError as error:
        complain(error)
        raise typer.Exit(MISTAKEN) from None
