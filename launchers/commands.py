"""The command line: `millrace run`, `chat`, `serve`, `top`, `draw` and `runs`.

Importing this module imports typer; what a command needs beyond that it imports itself, so that `--help` and `run`
load no web server.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ..flow.steps import Step
from ..streaming.errors import MillraceError, MissingExtra
from ..streaming.limits import Limits
from ..streaming.messages import Message
from .exits import MISTAKEN, complain, errors
from .inputs import takes_messages
from .run_commands import named_queue, runs
from .targets import DEMO, load_target
from .top_commands import top

__all__ = ["app"]

app = typer.Typer(
    help="Flows that stream, stop and give their memory back: ask one, chat with it, serve it, draw it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(runs)
app.command()(top)

TARGET = "module:attribute that names a flow, as in app:flow"


# ---------------------------------------------------------------- run


@app.command()
def run(
    words: Annotated[
        list[str], typer.Argument(metavar='[app:flow] "QUESTION"', help=TARGET + " (the demo by default).")
    ],
    session: Annotated[str | None, typer.Option(help="Id of the session that the run belongs to.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Deadline in seconds.", min=0.001)] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="The longest answer of the model, in tokens.", min=1)
    ] = None,
    events: Annotated[bool, typer.Option("--events", help="Print all events, as JSON lines.")] = False,
    queue: Annotated[str | None, typer.Option(help="Keep what the run says: file:///a/directory.")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
) -> None:
    """Ask a flow one question; the answer streams to the terminal. Ctrl-C stops the run."""
    from .terminals import Answer, EventLines

    target, question = _target_and_question(words)
    with errors(debug):
        to = None if queue is None else named_queue(queue)
        flow = _load(target)
        sampling = {} if max_tokens is None else {"max_tokens": max_tokens}
        x: object = [Message.user(question)] if takes_messages(flow) else question
        stream = flow.stream(x, session=session, timeout=timeout, sampling=sampling, queue=to)
        output = EventLines() if events else Answer()
        with output, stream:
            for event in stream:
                output.show(event)


def _target_and_question(words: list[str]) -> tuple[str, str]:
    """One argument asks the demo."""
    if len(words) > 2:
        raise typer.BadParameter("put the question in quotes, so that it is one argument")
    if len(words) == 2:
        return words[0], words[1]
    if re.fullmatch(r"[\w.]+:[\w.]+", words[0]):
        raise typer.BadParameter(f'what is to be asked? write: millrace run {words[0]} "question"')
    return DEMO, words[0]


# ---------------------------------------------------------------- chat and serve

Target = Annotated[str, typer.Argument(metavar="app:flow", help=TARGET + ".")]
DemoTarget = Annotated[str, typer.Argument(metavar="app:flow", help=TARGET + ". [default: the demo]")]
Host = Annotated[str, typer.Option(help="Address to listen on; others than this machine's need --api-keys.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)]
Running = Annotated[int, typer.Option(help="How many requests run at once.", min=1)]
Waiting = Annotated[int, typer.Option(help="How many more wait; beyond, they are refused.", min=0)]
Keys = Annotated[Path | None, typer.Option(help="File with one API key a line; then all must give one.")]
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


@app.command()
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


@app.command()
def serve(
    target: Target,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    running: Running = 4,
    waiting: Waiting = 16,
    api_keys: Keys = None,
    insecure: Insecure = False,
    title: Title = None,
    timeout: Timeout = 600.0,
    conversations: Kept = None,
    debug: Debug = False,
    no_chat: Annotated[bool, typer.Option("--no-chat", help="Serve the API alone.")] = False,
) -> None:
    """Serve a flow as an OpenAI-compatible API under /v1, with the web chat at /."""
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
            chat=not no_chat,
        )


def _serve(target: str, conversations: str | None, **options: Any) -> None:
    from .services import serve
    from .terminals import Loading
    from .web.archives import usual_folder

    flow = _load(target)
    if conversations is None:
        options["conversations"] = usual_folder(flow.name)
    elif conversations != "none":
        options["conversations"] = conversations
    with Loading(flow, chat=options["chat"]) as loading:
        serve(flow, announce=loading.announce, **options)


# ---------------------------------------------------------------- draw

FORMS = {
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".svg": "svg",
    ".png": "png",
    ".txt": "text",
}
"""Forms of a drawing by how a file's name ends."""


@app.command()
def draw(
    target: DemoTarget = DEMO,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; its ending says the form.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="text, mermaid, svg or png. [default: the file's, or text]"),
    ] = None,
) -> None:
    """Draw a flow: on the terminal, or into a file (.svg, .png, .mmd, .txt). Nothing is loaded, nothing runs."""
    with errors(debug=False):
        chosen = form or _form_of(output)
        if chosen not in FORMS.values():
            raise typer.BadParameter(f"there is no format {chosen!r}; use text, mermaid, svg or png")
        if chosen == "png" and output is None:
            raise typer.BadParameter("a png goes into a file: -o flow.png")
        flow = _load(target)
        drawn: str | bytes = flow.draw(chosen, width=_columns())  # type: ignore[call-overload]
        if output is None:
            typer.echo(drawn, nl=False)
        else:
            try:
                output.write_bytes(drawn if isinstance(drawn, bytes) else drawn.encode())
            except OSError as error:
                raise MillraceError(f"{output} cannot be written: {error.strerror}") from None


def _form_of(output: Path | None) -> str:
    if output is None:
        return "text"
    if output.suffix.lower() not in FORMS:
        raise typer.BadParameter(
            f"what is {output.name} to be? end it in .svg, .png, .mmd or .txt, or give --format"
        )
    return FORMS[output.suffix.lower()]


def _columns() -> int:
    """How wide the terminal is; 100 where there is none."""
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


# ---------------------------------------------------------------- what all commands share


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log what happens, on stderr.")] = False,
) -> None:
    handler = logging.StreamHandler()
    handler.setLevel(logging.INFO if verbose else logging.WARNING)
    logging.basicConfig(level=handler.level, format="%(levelname)s %(name)s: %(message)s", handlers=[handler])
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"millrace {version_of('millrace')}")
        raise typer.Exit


def _load(target: str) -> Step[Any, Any]:
    """The flow; what is wrong with the target is a mistake in the command, so it ends with 2."""
    try:
        return load_target(target)
    except MissingExtra:
        raise
    except MillraceError as error:
        complain(error)
        raise typer.Exit(MISTAKEN) from None
