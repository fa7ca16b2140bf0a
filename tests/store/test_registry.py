"""Keys and projects as operators change them, in both databases, and several operators at the same time."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from hodios.accounts.registry import Registry
from hodios.errors import Conflict, InvalidRequest, NotFound
from hodios.store.database import Database
from hodios.store.records import KeyRecord, ProjectRecord

SECRET = b"secret"
NOON_S = 1_795_262_400.0
"""2026-11-21 12:00 UTC."""


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database, SECRET, clock_s=lambda: NOON_S)


def same_key(record: KeyRecord) -> KeyRecord:
    return record


def same_project(record: ProjectRecord) -> ProjectRecord:
    return record


async def test_changes_at_the_same_time_are_all_kept(registry: Registry) -> None:
    key, _ = await registry.create_key(same_key)

    async def label(name: str) -> None:
        await registry.change_key(
            key.id, lambda record: structs.replace(record, metadata={**record.metadata, name: ""}), None
        )

    names = list("abcd")
    await asyncio.gather(*map(label, names))
    assert sorted((await registry.key(key.id)).metadata) == names


async def test_of_two_who_saw_the_same_one_is_told(registry: Registry) -> None:
    key, _ = await registry.create_key(same_key)
    changes = [registry.change_key(key.id, same_key, key.version) for _ in range(2)]
    found = await asyncio.gather(*changes, return_exceptions=True)
    assert sorted(type(each) for each in found if not isinstance(each, KeyRecord)) == [Conflict]


async def test_a_project_has_to_be_there_and_stays_with_its_keys(registry: Registry) -> None:
    with pytest.raises(InvalidRequest, match="'nobody' is not known"):
        await registry.create_key(lambda record: structs.replace(record, project_id="nobody"))
    project = await registry.create_project(same_project)
    key, _ = await registry.create_key(lambda record: structs.replace(record, project_id=project.id))
    with pytest.raises(InvalidRequest, match="'nobody' is not known"):
        await registry.change_key(key.id, lambda record: structs.replace(record, project_id="nobody"), None)
    with pytest.raises(Conflict, match="still has keys"):
        await registry.delete_project(project.id)
    await registry.delete_key(key.id)
    await registry.delete_project(project.id)
    with pytest.raises(NotFound):
        await registry.project(project.id)


async def test_a_text_is_known_by_its_digest_alone(registry: Registry) -> None:
    key, first = await registry.create_key(same_key)
    rotated, second = await registry.rotate_key(key.id, 60.0)
    assert first != second
    assert (rotated.previous_digest, rotated.previous_expires_at_s) == (key.digest, NOON_S + 60)
    assert first not in repr(rotated)
    assert second not in repr(rotated)


async def test_periods_begin_anew_in_utc(registry: Registry) -> None:
    key, _ = await registry.create_key(
        lambda record: structs.replace(record, budgets=structs.replace(record.budgets, daily=5))
    )
    spending = (await registry.spending([key]))[key.id]
    assert {name: (each.spent, each.left) for name, each in spending.items()} == {
        **dict.fromkeys(("total", "weekly", "monthly"), (0, None)),
        "daily": (0, 5),
    }
    hours = {name: (each.resets_at_s - NOON_S) / 3600 for name, each in spending.items() if each.resets_at_s}
    assert hours == {"daily": 12, "weekly": 36, "monthly": 9 * 24 + 12}
    assert await registry.spending([]) == {}


async def test_records_are_listed_in_the_order_of_their_making(database: Database) -> None:
    times = iter(range(1, 100))
    registry = Registry(database, SECRET, clock_s=lambda: float(next(times)))
    ids = [(await registry.create_key(same_key))[0].id for _ in range(4)]
    assert [key.id for key in await registry.keys(after=ids[0], most=2, project=None)] == ids[1:3]
    assert await registry.projects(after="", most=5) == []
