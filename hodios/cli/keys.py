"""`hodios keys`: who may ask, for what, and for how much. Works on the store; running servers notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hodios.api.account_fields import KEY_FIELDS, LONGEST_GRACE_S, changed, grace_in, parse
from hodios.cli.account_options import with_fields
from hodios.cli.account_tables import AsJson, Id, print_json, run, show, table_of
from hodios.cli.announcement import example
from hodios.cli.console import program, server_url, stdout
from hodios.config import load

if TYPE_CHECKING:
    from hodios.accounts.registry import Registry
    from hodios.api.account_answers import KeyDetails, KeyWithText
    from hodios.api.allow_lists import Known
    from hodios.launches import Launch
    from hodios.remotes import Remote
    from hodios.store.records import KeyRecord

Force = Annotated[bool, typer.Option("--force", help="Allow models and providers that nobody knows yet.")]
keys = typer.Typer(help="Keys: who may ask, and for how much.", no_args_is_help=True, rich_markup_mode=None)


@keys.command()
@with_fields(KEY_FIELDS)
def create(values: dict[str, Any], force: Force = False, as_json: AsJson = False) -> None:
    """Make a key. It is shown this once."""
    change = _changing(values, is_forced=force)

    async def work(registry: Registry) -> KeyWithText:
        return await _with_text(registry, *await registry.create_key(change))

    _show_new(run(work), as_json=as_json)


@keys.command("list")
def show_all(
    project: Annotated[str | None, typer.Option(help="Those of this project alone.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """List all keys, oldest first."""

    async def work(registry: Registry) -> list[KeyDetails]:
        from hodios.accounts.registry import MOST_IN_PAGE
        from hodios.api.account_answers import key_details

        found: list[KeyRecord] = []
        while page := await registry.keys(after=found[-1].id if found else "", most=MOST_IN_PAGE, project=project):
            found += page
        spending = await registry.spending(found)
        return [key_details(record, spending[record.id]) for record in found]

    found = run(work)
    if as_json:
        print_json(found)
    elif found:
        stdout().print(table_of(found))
    else:
        stdout().print(f"There are no keys. To make one: {program()} keys create --name NAME")


@keys.command("show")
def show_one(id: Id, as_json: AsJson = False) -> None:
    """Show a key, and what was spent with it. The key itself is known to nobody any more."""

    async def work(registry: Registry) -> KeyDetails:
        return await _details(registry, await registry.key(id))

    show(run(work), as_json=as_json)


@keys.command()
@with_fields(KEY_FIELDS, is_change=True)
def edit(id: Id, values: dict[str, Any], force: Force = False, as_json: AsJson = False) -> None:
    """Change what is named of a key, and nothing else."""
    _change(id, values, is_forced=force, as_json=as_json)


@keys.command()
def rotate(
    id: Id,
    grace_s: Annotated[
        float, typer.Option(help="Seconds for which the key is good as it was, too.", min=0, max=LONGEST_GRACE_S)
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Give a key a new text, which is shown this once."""
    grace = grace_in({"grace_s": grace_s})

    async def work(registry: Registry) -> KeyWithText:
        return await _with_text(registry, *await registry.rotate_key(id, grace))

    _show_new(run(work), as_json=as_json)


@keys.command()
def disable(id: Id, as_json: AsJson = False) -> None:
    """Refuse all that is asked with a key, until it is enabled."""
    _change(id, {"disabled": True}, as_json=as_json)


@keys.command()
def enable(id: Id, as_json: AsJson = False) -> None:
    """Let a key ask again."""
    _change(id, {"disabled": False}, as_json=as_json)


@keys.command()
def delete(id: Id) -> None:
    """Delete a key for good. What was spent with it stays in the ledger."""

    async def work(registry: Registry) -> None:
        await registry.delete_key(id)

    run(work)
    stdout().print(f"{id} is deleted.")


def _change(id: str, values: dict[str, Any], *, is_forced: bool = False, as_json: bool) -> None:
    change = _changing(values, is_forced=is_forced)

    async def work(registry: Registry) -> KeyDetails:
        return await _details(registry, await registry.change_key(id, change, None))

    show(run(work), as_json=as_json)


def _changing(values: dict[str, Any], *, is_forced: bool) -> Callable[[KeyRecord], KeyRecord]:
    parsed = parse(KEY_FIELDS, values)
    if not values.get("models") and not values.get("providers"):
        return lambda record: changed(record, parsed)
    # Imported here because neither is read for other keys.
    from hodios.api.allow_lists import resolved

    names = _known()
    return lambda record: changed(record, resolved(parsed, names, record, is_forced=is_forced))


def _known() -> Known:
    """Of what is installed, named in the settings, in the catalog, or was listed by providers when they were asked."""
    from hodios.api.allow_lists import known
    from hodios.providers.catalog_store import CatalogStore
    from hodios.providers.echo import EchoProvider
    from hodios.providers.installed import installed
    from hodios.providers.listing_shelf import ListingShelf
    from hodios.providers.local import NAME

    config = load()
    store = CatalogStore(config)
    ListingShelf(config.home).lay_out(store)
    models = [(model.id, model.aliases) for model in installed(config.home)]
    servers: tuple[Remote | Launch, ...] = (*config.remote, *config.launch)
    models += [(model.id, model.aliases) for server in servers for model in server.models]
    echo = EchoProvider()
    if not models:
        # Without any, that is who answers.
        models += [(card.id, card.aliases) for card in echo.models()]
    return known(models, [NAME, echo.name, *(server.name for server in servers)], store.current)


async def _details(registry: Registry, record: KeyRecord) -> KeyDetails:
    from hodios.api.account_answers import key_details

    return key_details(record, (await registry.spending([record]))[record.id])


async def _with_text(registry: Registry, record: KeyRecord, text: str) -> KeyWithText:
    from hodios.api.account_answers import key_with_text

    return key_with_text(record, (await registry.spending([record]))[record.id], text)


def _show_new(key: KeyWithText, *, as_json: bool) -> None:
    if as_json:
        print_json(key)
        return
    told = [f"{key.id} has this key, which is shown this once:\n", f"  {key.key}\n", "Ask with it:\n"]
    stdout().print("\n".join([*told, _line(key)]))


def _line(key: KeyWithText) -> str:
    """To paste; without any model that is known to be there, one that lists those that are."""
    from hodios.providers.installed import installed

    config = load()
    url = server_url(config)
    models = key.models or [model.id for model in installed(config.home)]
    if models:
        return example(models[0], url, key.key)
    return f"curl {url}/v1/models -H 'Authorization: Bearer {key.key}'"
