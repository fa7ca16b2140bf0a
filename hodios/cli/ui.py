"""`hodios ui`: a link by which the web page of the running server is opened once, without typing a key."""

from __future__ import annotations

import time
import webbrowser
from typing import Annotated

import typer

from hodios.api import login_codes
from hodios.cli.console import known_key, program, server_url, stderr, stdout
from hodios.config import load
from hodios.errors import ConfigError


def ui(
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser too.")] = False,
    url: Annotated[
        str | None,
        typer.Option(help="Where the server is reached, if that is not as the settings say.", show_default=False),
    ] = None,
) -> None:
    """Make a link that opens the web page as the operator. It is good once, for ten minutes."""
    config = load()
    key = known_key(config)
    if key is None:
        raise ConfigError(f"No admin key is known in {config.home}. Start the server first: {program()} serve")
    link = login_codes.link((url or server_url(config)).rstrip("/"), key, time.time())
    stdout().print(link)
    if open_ and not webbrowser.open(link):
        stderr().print("No browser could be started here; open the link in one.", style="yellow")
