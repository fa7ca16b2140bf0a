"""`hodios doctor`: what this machine can run, what is missing, and how to fix it."""

from __future__ import annotations

import typer

from hodios.cli.console import stdout

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor() -> None:
    """Check this machine and this installation. Exit code 1 if something would not work."""
    # Imported here because it loads what reads models and speaks HTTP.
    from hodios.cli.checks import examine

    console = stdout()
    worst_is_fail = False
    for check in examine():
        worst_is_fail |= check.status == "fail"
        console.print(f"{check.status:4}", style=_STYLES[check.status], end="  ")
        console.print(f"{check.subject}: {check.found}")
        if check.fix:
            console.print(f"        → {check.fix}")
        if check.rows:
            console.print(f"\n{check.rows}\n", markup=False, highlight=False, soft_wrap=True)
    if worst_is_fail:
        raise typer.Exit(1)
