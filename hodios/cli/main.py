"""The program `hodios`: its commands, and the one place where an operator's mistake becomes a sentence."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hodios import __version__
from hodios.cli.bench import bench
from hodios.cli.chat import chat
from hodios.cli.console import stderr
from hodios.cli.db import db
from hodios.cli.doctor import doctor
from hodios.cli.guard import guard
from hodios.cli.keys import keys
from hodios.cli.models import models
from hodios.cli.projects import projects
from hodios.cli.pull import pull
from hodios.cli.serve import serve
from hodios.cli.sync import sync
from hodios.cli.ui import ui
from hodios.cli.usage import usage
from hodios.errors import HodiosError, SetupError

app = typer.Typer(
    name="hodios",
    help="Serve open-weight language models behind an OpenAI-compatible API.",
    epilog="Settings come from HODIOS_* variables and hodios.toml; docs/configuration.md lists them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve)
app.command()(chat)
app.command()(pull)
app.command()(sync)
app.command()(usage)
app.command()(ui)
app.command()(guard)
app.command()(doctor)
app.add_typer(bench, name="bench")
app.add_typer(db, name="db")
app.add_typer(keys, name="keys")
app.add_typer(models, name="models")
app.add_typer(projects, name="projects")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hodios {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Serve open-weight language models behind an OpenAI-compatible API."""


def main() -> None:
    """Run the command line. Exit code 2 for whatever the operator can mend, with one sentence that says how."""
    try:
        app()
    except SetupError as error:
        stderr().print(str(error), style="red")
        sys.exit(2)
    except HodiosError as error:
        stderr().print(error.message, style="red")
        sys.exit(2)


if __name__ == "__main__":
    main()
