"""`hodios chat`: a conversation in the terminal with a running server."""

from __future__ import annotations

import atexit
import contextlib
import readline
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hodios.cli.console import known_key, server_url, stderr, stdout
from hodios.config import load
from hodios.errors import HodiosError, SetupError

if TYPE_CHECKING:
    from hodios.cli.conversation import Conversation

HELP = """\
/system TEXT   begin anew with TEXT as the system prompt; without TEXT, with none
/model [NAME]  show the models, or go on with another one
/clear         forget the conversation
/help          show this
/exit          leave (also Ctrl-D); Ctrl-C stops the current answer"""
_HISTORY_LINES = 1000
_Schema = Annotated[
    str | None,
    typer.Option(
        help="Answer in JSON of this form: module:Name or file.py:Name of a pydantic model, dataclass or TypedDict, "
        "or a JSON schema in a .json file.",
        show_default=False,
    ),
]


def chat(
    message: Annotated[str | None, typer.Argument(help="One question to answer; without it, a conversation.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The model to ask. [the first one served]", show_default=False)
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.", show_default=False)] = None,
    temperature: Annotated[float, typer.Option(help="How freely it answers, 0 to 2.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(help="The longest answer, in tokens.")] = 1024,
    tools: Annotated[
        list[Path] | None,
        typer.Option(help="A Python file whose functions the model may call; may be repeated.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Run tools without asking.")] = False,
    max_rounds: Annotated[int, typer.Option(min=1, help="How often tools are run for one question.")] = 5,
    schema: _Schema = None,
    url: Annotated[str | None, typer.Option(help="The server. [the one of the settings]", show_default=False)] = None,
) -> None:
    """Chat with a running server. What is piped in is one question."""
    # Imported here because the HTTP client and the schemas would slow down every other command.
    from hodios.cli.conversation import Conversation
    from hodios.cli.schema import AnswerForm
    from hodios.cli.tools import Toolbox

    config = load()
    conversation = Conversation(
        url or server_url(config),
        known_key(config),
        system,
        tools=Toolbox(tools, asks=not yes) if tools else None,
        form=AnswerForm(schema) if schema else None,
        max_rounds=max_rounds,
        temperature=temperature,
        max_tokens=max_tokens,
    )
    conversation.choose(model)
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read().strip()
        if not message:
            raise SetupError("Nothing was piped in. Give a question: hodios chat 'Why is the sky blue?'")
    if message is not None:
        if not conversation.ask(message, shows_speed=False):
            raise typer.Exit(1)
        return
    _keep_history(str(config.home / "chat_history"))
    stderr().print(f"{conversation.model} — /help for commands, Ctrl-D to leave", style="dim")
    _converse(conversation)


def _converse(conversation: Conversation) -> None:
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            sys.stdout.write("\n")
            return
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            continue
        if line in ("/exit", "/quit"):
            return
        if line.startswith("/"):
            _obey(conversation, line)
        elif line:
            with _sentences():
                conversation.ask(line, shows_speed=True)


def _obey(conversation: Conversation, line: str) -> None:
    command, _, rest = line.partition(" ")
    match command:
        case "/clear":
            conversation.clear()
        case "/system":
            conversation.begin(rest.strip() or None)
        case "/model":
            with _sentences():
                if rest.strip():
                    conversation.choose(rest.strip())
                for model in conversation.models():
                    stdout().print(f"{'*' if model.id == conversation.model else ' '} {model.id}")
        case "/help":
            stdout().print(HELP)
        case _:
            stderr().print(f"There is no command {command}; /help lists them.", style="red")


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """Within a conversation an error is told and not the end."""
    try:
        yield
    except SetupError as error:
        stderr().print(str(error), style="red")
    except HodiosError as error:
        stderr().print(error.message, style="red")


def _keep_history(path: str) -> None:
    """What was typed comes back with the arrow keys, in the next conversation too."""
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(_HISTORY_LINES)

    def write() -> None:
        with contextlib.suppress(OSError):
            readline.write_history_file(path)

    atexit.register(write)
