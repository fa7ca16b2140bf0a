"""Keys and projects come back as they were, change only from what was seen, and every change is counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hodios.store.database import Database
from hodios.store.failures import AlreadyStored, NotStored, StaleVersion
from hodios.store.keys import Keys
from hodios.store.projects import Projects
from hodios.store.records import Budgets, KeyRecord, Limits, ProjectRecord
from hodios.store.versioned import version

FULL = KeyRecord(
    id="k1",
    prefix="sk-abc",
    digest=b"\0\xff" * 16,
    name="Søren’s key",
    owner="søren",
    models=("m1", "m2"),
    providers=(),
    budgets=Budgets(total=2**62, monthly=0),
    limits=Limits(requests_per_minute=60),
    priority=-3,
    is_queueing=True,
    default_max_tokens=100,
    expires_at_s=1_795_262_400.25,
    metadata={"team": "a/b"},
    content_filter="details",
    stores_content=True,
    on_store_error="open",
    created_at_s=1_795_000_000.5,
)


def key(id: str, **changes: Any) -> KeyRecord:
    return KeyRecord(**{"id": id, "prefix": "sk", "digest": id.encode(), "created_at_s": 1.0} | changes)


async def test_a_key_comes_back_as_it_was(database: Database) -> None:
    keys = Keys(database)
    await keys.create(FULL)
    await keys.create(key("k2"))
    assert await keys.get("k1") == FULL
    assert await keys.by_digest(FULL.digest) == FULL
    assert await keys.get("k2") == key("k2")
    assert await keys.get("k3") is None
    assert await keys.by_digest(b"nobody's") is None


async def test_every_change_is_counted(database: Database) -> None:
    keys, projects = Keys(database), Projects(database)
    seen = [await version(database)]

    async def counted() -> None:
        seen.append(await version(database))
        assert seen[-1] > seen[-2]

    await projects.create(ProjectRecord(id="p1", created_at_s=1.0))
    await counted()
    await keys.create(key("k1", project_id="p1"))
    await counted()
    changed = await keys.replace(key("k1", name="new"))
    await counted()
    await keys.rotate("k1", "sk2", b"new", version=changed.version, previous_until_s=9.0)
    await counted()
    await keys.delete("k1")
    await counted()
    await keys.touch({"k1": 5.0})
    assert await version(database) == seen[-1]


async def test_nobody_overwrites_what_he_has_not_seen(database: Database) -> None:
    keys = Keys(database)
    await keys.create(key("k1"))
    changes = (keys.replace(key("k1", name=name)) for name in ("a", "b", "c"))
    results = await asyncio.gather(*changes, return_exceptions=True)
    (won,) = [result for result in results if isinstance(result, KeyRecord)]
    assert won.version == 2
    assert await keys.get("k1") == won
    assert sum(isinstance(result, StaleVersion) for result in results) == 2
    with pytest.raises(NotStored):
        await keys.replace(key("k2"))


async def test_a_rotated_key_is_found_by_both_texts(database: Database) -> None:
    keys = Keys(database)
    await keys.create(key("k1", digest=b"first"))
    second = await keys.rotate("k1", "sk-2", b"second", version=1, previous_until_s=50.0)
    assert (second.digest, second.previous_digest, second.previous_expires_at_s) == (b"second", b"first", 50.0)
    assert await keys.by_digest(b"first") == await keys.by_digest(b"second") == second
    third = await keys.rotate("k1", "sk-3", b"third", version=2, previous_until_s=60.0)
    assert await keys.by_digest(b"second") == third
    assert await keys.by_digest(b"first") is None
    with pytest.raises(StaleVersion):
        await keys.rotate("k1", "sk-4", b"fourth", version=2, previous_until_s=60.0)


async def test_a_text_that_is_given_out_again_belongs_to_the_new_key(database: Database) -> None:
    keys = Keys(database)
    await keys.create(key("a", digest=b"first"))
    await keys.rotate("a", "sk", b"second", version=1, previous_until_s=50.0)
    await keys.create(key("b", digest=b"first"))
    found = await keys.by_digest(b"first")
    assert found is not None
    assert found.id == "b"


async def test_ids_and_digests_are_unique(database: Database) -> None:
    keys = Keys(database)
    await keys.create(key("k1"))
    await keys.create(key("k2"))
    for twin in (key("k1", digest=b"other"), key("k3", digest=b"k1")):
        with pytest.raises(AlreadyStored):
            await keys.create(twin)
    with pytest.raises(AlreadyStored):
        await keys.replace(key("k2", digest=b"k1"))


async def test_keys_and_projects_hold_together(database: Database) -> None:
    keys, projects = Keys(database), Projects(database)
    with pytest.raises(NotStored):
        await keys.create(key("k1", project_id="p1"))
    await projects.create(ProjectRecord(id="p1", name="one", budgets=Budgets(daily=5), created_at_s=2.0))
    await keys.create(key("k1", project_id="p1"))
    await keys.create(key("k2"))
    assert [found.id for found in await keys.of_project("p1")] == ["k1"]
    with pytest.raises(AlreadyStored, match="p1 has records"):
        await projects.delete("p1")
    await keys.delete("k1")
    await projects.delete("p1")
    with pytest.raises(NotStored):
        await projects.delete("p1")


async def test_keys_are_listed_page_by_page(database: Database) -> None:
    keys = Keys(database)
    for number in (3, 1, 4, 2, 5):
        await keys.create(key(f"k{number}"))
    first = await keys.page(most=2)
    rest = await keys.page(after=first[-1].id)
    assert [found.id for found in (*first, *rest)] == ["k1", "k2", "k3", "k4", "k5"]


async def test_the_last_use_never_goes_back_and_survives_changes(database: Database) -> None:
    keys = Keys(database)
    await keys.create(key("k1"))
    await keys.touch({"k1": 5.0, "gone": 7.0})
    await keys.touch({"k1": 4.0})
    await keys.touch({})
    await keys.replace(key("k1", name="new"))
    found = await keys.get("k1")
    assert found is not None
    assert (found.last_used_at_s, found.name, found.version) == (5.0, "new", 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "a/b"},
        {"id": ""},
        {"name": "NUL \0"},
        {"owner": "half \ud83d"},
        {"priority": 2**31},
        {"default_max_tokens": 2**63},
        {"metadata": {"half": "\ud83d"}},
    ],
    ids=str,
)
async def test_what_cannot_be_kept_is_refused(database: Database, changes: dict[str, Any]) -> None:
    keys = Keys(database)
    with pytest.raises(ValueError, match="is not accepted"):
        await keys.create(key(**({"id": "k1"} | changes)))
    assert await keys.page() == []


async def test_any_other_text_and_number_comes_back(database: Database) -> None:
    keys = Keys(database)
    odd = key(
        "k1",
        name="\x01\u2028\U0001f511'\"%:x",
        metadata={"\0": "\0"},
        budgets=Budgets(total=2**80),
        priority=-(2**31) + 1,
    )
    await keys.create(odd)
    assert await keys.get("k1") == odd
