"""The command line: `millrace run`, `chat`, `serve`, `top`, `draw` and `runs`.

Importing this module imports typer; what a command needs beyond that it imports itself, so that `--help` and `run`
load no web server.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Annotated

import typer

from ..streaming.errors import MillraceError
from ..streaming.messages import Message
from .exits import errors
from .inputs import takes_messages
from .run_commands import named_queue, runs
from .serve_commands import TARGET, DemoTarget, chat, load, serve
from .targets import DEMO
from .top_commands import top

__all__ = ["app"]

app = typer.Typer(
    help="Flows that stream, stop and give their memory back: ask one, chat with it, serve it, draw it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# ---------------------------------------------------------------- run


@app.command()
def run(
    words: Annotated[
        list[str], typer.Argument(metavar='[app:flow] "QUESTION"', help=f"{TARGET} (the demo by default).")
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
        flow = load(target)
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


# ---------------------------------------------------------------- those of other files

app.command()(chat)
app.command()(serve)
app.command()(top)
app.add_typer(runs)


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
        flow = load(target)
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
