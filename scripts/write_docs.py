"""Writes what the documentation says of commands, settings and modules; `--check` says whether it is current."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import typer
from typer.testing import CliRunner

from hodios.cli.main import app
from hodios.config import Config
from hodios.settings import SETTINGS

DOCS = Path(__file__).parent.parent / "docs"
COMMANDS = (
    (),
    ("serve",),
    ("chat",),
    ("models",),
    ("models", "load"),
    ("models", "unload"),
    ("pull",),
    ("sync",),
    ("usage",),
    ("ui",),
    ("doctor",),
    ("bench",),
    ("bench", "engine"),
    ("db",),
    ("db", "upgrade"),
    ("db", "current"),
    ("db", "check"),
    ("db", "purge"),
    ("db", "forget"),
    ("keys",),
    *(("keys", name) for name in ("create", "list", "show", "edit", "rotate", "disable", "enable", "delete")),
    ("projects",),
    *(("projects", name) for name in ("create", "list", "show", "edit", "disable", "enable", "delete")),
)
PACKAGE = DOCS.parent / "hodios"
BEGIN, END = "<!-- written by `make docs` -->", "<!-- end -->"
FOLDERS = (
    *("cli", "api", "", "router", "accounts", "guard", "store", "providers"),
    *("engine", "dialog", "hints", "json_schema"),
)
"""From the top layer down; "" stands for the modules beside the folders."""


def command_line() -> str:
    """Every command's help, as it is shown in a terminal of 100 columns."""
    runner = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "LANG": "C.UTF-8"})
    parts = ["# The command line\n\nWritten by `make docs`; a test compares it with the program."]
    for command in COMMANDS:
        result = runner.invoke(app, [*command, "--help"], prog_name="hodios")
        text = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        parts.append(f"## `{' '.join(('hodios', *command))}`\n\n```text\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def settings_table() -> str:
    defaults = dict(zip(Config.__struct_fields__[1:], Config.__struct_defaults__, strict=True))
    defaults["home"] = "~/.local/share/hodios"
    lines = ["| `hodios.toml` | environment | default | accepted | what it does |", "|---|---|---|---|---|"]
    for setting in SETTINGS:
        default = defaults[setting.name]
        shown = "–" if default in (None, ()) else f"`{str(default).lower()}`"
        lines.append(f"| `{setting.key}` | `{setting.variable}` | {shown} | {setting.accepts} | {setting.meaning} |")
    return "\n".join(lines)


def modules_table() -> str:
    """Every module with the first paragraph of its docstring."""
    lines = ["| module | what it owns |", "|---|---|"]
    for folder in FOLDERS:
        for path in sorted((PACKAGE / folder).glob("**/*.py" if folder else "*.py")):
            if path.name != "__init__.py":
                told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
                sentence = " ".join(told.partition("\n\n")[0].split()).replace("|", "\\|")
                lines.append(f"| `{path.relative_to(PACKAGE).as_posix()}` | {sentence} |")
    return "\n".join(lines)


def with_table(path: Path, table: str) -> str:
    head, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def main(check: bool = False) -> None:
    """Write the files, or with --check exit 1 where one is not current."""
    settings, architecture = DOCS / "configuration.md", DOCS / "architecture.md"
    wanted = {
        DOCS / "cli.md": command_line(),
        settings: with_table(settings, settings_table()),
        architecture: with_table(architecture, modules_table()),
    }
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            typer.echo(f"{path} is not current. Run: make docs", err=True)
        else:
            path.write_text(wanted[path], encoding="utf-8")
    if check and stale:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
