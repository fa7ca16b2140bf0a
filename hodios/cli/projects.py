"""`hodios projects`: keys with budgets and limits in common. Works on the store; running servers notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from hodios.api.account_fields import PROJECT_FIELDS, changed, parse
from hodios.cli.account_options import with_fields
from hodios.cli.account_tables import AsJson, Id, print_json, run, show, table_of_projects
from hodios.cli.console import program, stdout

if TYPE_CHECKING:
    from hodios.accounts.registry import Registry
    from hodios.api.account_answers import ProjectDetails
    from hodios.store.records import ProjectRecord

projects = typer.Typer(
    help="Projects: keys with budgets and limits in common.", no_args_is_help=True, rich_markup_mode=None
)


@projects.command()
@with_fields(PROJECT_FIELDS)
def create(values: dict[str, Any], as_json: AsJson = False) -> None:
    """Make a project, for keys to belong to."""
    parsed = parse(PROJECT_FIELDS, values)

    async def work(registry: Registry) -> ProjectDetails:
        return await _details(registry, await registry.create_project(lambda record: changed(record, parsed)))

    show(run(work), as_json=as_json)


@projects.command("list")
def show_all(as_json: AsJson = False) -> None:
    """List all projects, oldest first."""

    async def work(registry: Registry) -> list[ProjectDetails]:
        from hodios.accounts.registry import MOST_IN_PAGE
        from hodios.api.account_answers import project_details

        found: list[ProjectRecord] = []
        while page := await registry.projects(after=found[-1].id if found else "", most=MOST_IN_PAGE):
            found += page
        spending = await registry.spending(found)
        return [project_details(record, spending[record.id]) for record in found]

    found = run(work)
    if as_json:
        print_json(found)
    elif found:
        stdout().print(table_of_projects(found))
    else:
        stdout().print(f"There are no projects. To make one: {program()} projects create --name NAME")


@projects.command("show")
def show_one(id: Id, as_json: AsJson = False) -> None:
    """Show a project, and what its keys have spent."""

    async def work(registry: Registry) -> ProjectDetails:
        return await _details(registry, await registry.project(id))

    show(run(work), as_json=as_json)


@projects.command()
@with_fields(PROJECT_FIELDS, is_change=True)
def edit(id: Id, values: dict[str, Any], as_json: AsJson = False) -> None:
    """Change what is named of a project, and nothing else."""
    _change(id, values, as_json=as_json)


@projects.command()
def disable(id: Id, as_json: AsJson = False) -> None:
    """Refuse all that is asked with the keys of a project, until it is enabled."""
    _change(id, {"disabled": True}, as_json=as_json)


@projects.command()
def enable(id: Id, as_json: AsJson = False) -> None:
    """Let the keys of a project ask again."""
    _change(id, {"disabled": False}, as_json=as_json)


@projects.command()
def delete(id: Id) -> None:
    """Delete a project that has no keys any more."""

    async def work(registry: Registry) -> None:
        await registry.delete_project(id)

    run(work)
    stdout().print(f"{id} is deleted.")


def _change(id: str, values: dict[str, Any], *, as_json: bool) -> None:
    parsed = parse(PROJECT_FIELDS, values)

    async def work(registry: Registry) -> ProjectDetails:
        return await _details(registry, await registry.change_project(id, lambda record: changed(record, parsed), None))

    show(run(work), as_json=as_json)


async def _details(registry: Registry, record: ProjectRecord) -> ProjectDetails:
    from hodios.api.account_answers import project_details

    return project_details(record, (await registry.spending([record]))[record.id])
