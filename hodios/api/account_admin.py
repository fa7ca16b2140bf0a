"""`/admin/v1/keys` and `/admin/v1/projects`: the operator's handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from hodios.accounts.registry import ID, MOST_IN_PAGE, Registry
from hodios.api.account_answers import (
    Deleted,
    KeyDetails,
    KeyList,
    ProjectDetails,
    ProjectList,
    key_details,
    key_with_text,
    project_details,
)
from hodios.api.account_fields import KEY_FIELDS, PROJECT_FIELDS, changed, grace_in, parse, version_in
from hodios.api.admin import DEFAULT_LIMIT, limit_in, require_admin
from hodios.api.allow_lists import Known, force_in, known, resolved
from hodios.api.exchange import Exchange
from hodios.api.routes import RouteName
from hodios.api.wire import decode_object
from hodios.errors import InvalidRequest, NotAvailable
from hodios.gateway import Gateway
from hodios.providers.catalog_store import CatalogStore
from hodios.store.records import KeyRecord, ProjectRecord

PAGING = ("after", "limit")
KEY_FILTERS = (*PAGING, "project")
R = TypeVar("R", KeyRecord, ProjectRecord)


class AccountAdmin:
    """Without a registry every answer is a 501. `names` are those of the moment."""

    def __init__(self, registry: Registry | None, names: Callable[[], Known], max_body_bytes: int) -> None:
        self._registry = registry
        self._names = names
        self._max_body_bytes = max_body_bytes

    def handlers(self) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
        return {
            "list_keys": self.list_keys,
            "create_key": self.create_key,
            "show_key": self.show_key,
            "change_key": self.change_key,
            "rotate_key": self.rotate_key,
            "delete_key": self.delete_key,
            "list_projects": self.list_projects,
            "create_project": self.create_project,
            "show_project": self.show_project,
            "change_project": self.change_project,
            "delete_project": self.delete_project,
        }

    async def list_keys(self, exchange: Exchange) -> None:
        registry, (after, limit) = self._admitted(exchange), _paging(exchange)
        project = _id_in(exchange, "project") or None
        records, has_more = _page(await registry.keys(after=after, most=limit + 1, project=project), limit)
        spending = await registry.spending(records)
        data = [key_details(record, spending[record.id]) for record in records]
        await exchange.answer_json(KeyList(data, has_more, records[-1].id if records else None))

    async def create_key(self, exchange: Exchange) -> None:
        registry = self._admitted(exchange)
        change = self._key_change(await self._values(exchange))
        record, text = await registry.create_key(change)
        await self._show_new(exchange, registry, record, text, 201)

    async def show_key(self, exchange: Exchange) -> None:
        registry = self._admitted(exchange)
        await exchange.answer_json(await _key(registry, await registry.key(_id(exchange))))

    async def change_key(self, exchange: Exchange) -> None:
        registry, values = self._admitted(exchange), await self._values(exchange)
        version = version_in(values)
        record = await registry.change_key(_id(exchange), self._key_change(values), version)
        await exchange.answer_json(await _key(registry, record))

    async def rotate_key(self, exchange: Exchange) -> None:
        registry = self._admitted(exchange)
        grace_s = grace_in(await self._values(exchange))
        record, text = await registry.rotate_key(_id(exchange), grace_s)
        await self._show_new(exchange, registry, record, text, 200)

    async def delete_key(self, exchange: Exchange) -> None:
        registry, id = self._admitted(exchange), _id(exchange)
        await registry.delete_key(id)
        await exchange.answer_json(Deleted(id, "key"))

    async def list_projects(self, exchange: Exchange) -> None:
        registry, (after, limit) = self._admitted(exchange), _paging(exchange)
        records, has_more = _page(await registry.projects(after=after, most=limit + 1), limit)
        spending = await registry.spending(records)
        data = [project_details(record, spending[record.id]) for record in records]
        await exchange.answer_json(ProjectList(data, has_more, records[-1].id if records else None))

    async def create_project(self, exchange: Exchange) -> None:
        registry = self._admitted(exchange)
        parsed = parse(PROJECT_FIELDS, await self._values(exchange))
        record = await registry.create_project(lambda record: changed(record, parsed))
        await exchange.answer_json(await _project(registry, record), 201)

    async def show_project(self, exchange: Exchange) -> None:
        registry = self._admitted(exchange)
        await exchange.answer_json(await _project(registry, await registry.project(_id(exchange))))

    async def change_project(self, exchange: Exchange) -> None:
        registry, values = self._admitted(exchange), await self._values(exchange)
        version = version_in(values)
        parsed = parse(PROJECT_FIELDS, values)
        record = await registry.change_project(_id(exchange), lambda record: changed(record, parsed), version)
        await exchange.answer_json(await _project(registry, record))

    async def delete_project(self, exchange: Exchange) -> None:
        registry, id = self._admitted(exchange), _id(exchange)
        await registry.delete_project(id)
        await exchange.answer_json(Deleted(id, "project"))

    def _admitted(self, exchange: Exchange) -> Registry:
        require_admin(exchange)
        if self._registry is None:
            raise NotAvailable("no keys are kept here: this server runs without a store")
        return self._registry

    def _key_change(self, values: dict[str, Any]) -> Callable[[KeyRecord], KeyRecord]:
        """Raises InvalidRequest, now and when it is made."""
        is_forced = force_in(values)
        parsed, names = parse(KEY_FIELDS, values), self._names()
        return lambda record: changed(record, resolved(parsed, names, record, is_forced=is_forced))

    async def _values(self, exchange: Exchange) -> dict[str, Any]:
        body = await exchange.body(self._max_body_bytes)
        return decode_object(body) if body.strip() else {}

    async def _show_new(
        self, exchange: Exchange, registry: Registry, record: KeyRecord, text: str, status: int
    ) -> None:
        spending = await registry.spending([record])
        await exchange.answer_json(key_with_text(record, spending[record.id], text), status)


def names_of(gateway: Gateway, store: CatalogStore) -> Callable[[], Known]:
    """Of what is offered, or in the catalog."""

    def find() -> Known:
        seats = gateway.seats()
        models = [(seat.card.id, seat.card.aliases) for seat in seats]
        return known(models, [seat.provider.name for seat in seats], store.current)

    return find


def _id(exchange: Exchange) -> str:
    id: str = exchange.scope["path_params"]["id"]
    return id


def _id_in(exchange: Exchange, name: str) -> str:
    """Of the query; "" where there is none. Raises InvalidRequest."""
    id = exchange.query(name) or ""
    if id and not ID.fullmatch(id):
        raise InvalidRequest(f"{name}: {id[:60]!r} is not an id; accepted: letters, digits, - and _", param=name)
    return id


def _paging(exchange: Exchange) -> tuple[str, int]:
    after, limit = _id_in(exchange, "after"), exchange.query("limit")
    return after, limit_in(limit, MOST_IN_PAGE) if limit else DEFAULT_LIMIT


def _page(records: Sequence[R], limit: int) -> tuple[Sequence[R], bool]:
    return records[:limit], len(records) > limit


async def _key(registry: Registry, record: KeyRecord) -> KeyDetails:
    return key_details(record, (await registry.spending([record]))[record.id])


async def _project(registry: Registry, record: ProjectRecord) -> ProjectDetails:
    return project_details(record, (await registry.spending([record]))[record.id])
