from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

import msgspec
import pytest

from hodios.accounts.keyring import BEGINNING, TTL_S, Keyring, NewKey, mint
from hodios.errors import AuthenticationError, Overloaded
from hodios.store.failures import StoreUnavailable
from hodios.store.records import KeyRecord, ProjectRecord

SECRET = b"secret"


class Shelf:
    """The store's keys and projects."""

    def __init__(self) -> None:
        self.keys: dict[bytes, KeyRecord] = {}
        self.projects: dict[str, ProjectRecord] = {}
        self.changes = 0
        self.num_asked = 0
        self.is_down = False
        self.used: dict[str, float] = {}
        self.now_s = 1000.0
        self.ring = Keyring(SECRET, self, self, self.version, lambda: self.now_s)

    async def by_digest(self, digest: bytes) -> KeyRecord | None:
        self.num_asked += 1
        await asyncio.sleep(0)
        self._check()
        return self.keys.get(digest)

    async def get(self, id: str) -> ProjectRecord | None:
        self._check()
        return self.projects.get(id)

    async def touch(self, last_used: Mapping[str, float]) -> None:
        self._check()
        self.used.update(last_used)

    async def version(self) -> int:
        self._check()
        return self.changes

    def _check(self) -> None:
        if self.is_down:
            raise StoreUnavailable("down")

    def put(self, new: NewKey, **fields: object) -> None:
        record = KeyRecord(id="k", prefix=new.prefix, digest=new.digest, created_at_s=0)
        self.keys[new.digest] = msgspec.structs.replace(record, **fields)
        self.changes += 1


def new_key(seed: int = 0) -> NewKey:
    return mint(SECRET, random.Random(seed).randbytes)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def test_a_key_is_looked_up_once_however_many_use_it(shelf: Shelf) -> None:
    new = new_key()
    shelf.put(new, project_id="p")
    shelf.projects["p"] = ProjectRecord(id="p", created_at_s=0)
    admitted = await asyncio.gather(*(shelf.ring.admit(new.text) for _ in range(50)))
    await shelf.ring.admit(new.text)
    assert shelf.num_asked == 1
    assert {(one.key.id, one.project and one.project.id) for one in admitted} == {("k", "p")}


async def test_the_key_itself_is_kept_nowhere(shelf: Shelf) -> None:
    new = new_key()
    shelf.put(new)
    await shelf.ring.admit(new.text)
    assert new.text.startswith(new.prefix)
    assert len(new.prefix) < len(BEGINNING) + 8
    assert new.text not in repr((vars(shelf.ring), shelf.keys))
    assert new.digest != mint(b"other", random.Random(0).randbytes).digest


async def test_guesses_are_refused_without_asking_the_store(shelf: Shelf) -> None:
    text = new_key().text
    for guess in ("", "sk-hodios-", text[:-1], text[:-1] + ("0" if text[-1] != "0" else "1"), "x" + text, text + "é"):
        with pytest.raises(AuthenticationError):
            await shelf.ring.admit(guess)
    assert shelf.num_asked == 0


async def test_what_is_not_known_is_remembered_until_something_changes(shelf: Shelf) -> None:
    new = new_key()
    await shelf.ring.poll()
    for _ in range(3):
        with pytest.raises(AuthenticationError, match="not known"):
            await shelf.ring.admit(new.text)
    assert shelf.num_asked == 1
    shelf.put(new)
    await shelf.ring.poll()
    assert (await shelf.ring.admit(new.text)).key.id == "k"


async def test_changes_show_at_the_next_look(shelf: Shelf) -> None:
    new = new_key()
    shelf.put(new)
    await shelf.ring.poll()
    await shelf.ring.admit(new.text)
    shelf.put(new, is_disabled=True)
    await shelf.ring.admit(new.text)
    await shelf.ring.poll()
    with pytest.raises(AuthenticationError, match="disabled"):
        await shelf.ring.admit(new.text)


@pytest.mark.parametrize(("fields", "why"), [({"is_disabled": True}, "disabled"), ({"expires_at_s": 999.0}, "expired")])
async def test_keys_end(shelf: Shelf, fields: dict[str, object], why: str) -> None:
    shelf.put(new_key(), **fields)
    with pytest.raises(AuthenticationError, match=why):
        await shelf.ring.admit(new_key().text)


async def test_keys_end_with_their_projects(shelf: Shelf) -> None:
    shelf.put(new_key(), project_id="p")
    shelf.projects["p"] = ProjectRecord(id="p", is_disabled=True, created_at_s=0)
    with pytest.raises(AuthenticationError, match="disabled"):
        await shelf.ring.admit(new_key().text)


async def test_a_key_that_was_replaced_is_good_for_a_while(shelf: Shelf) -> None:
    old, new = new_key(1), new_key(2)
    shelf.put(new, previous_digest=old.digest, previous_expires_at_s=1500.0)
    shelf.keys[old.digest] = shelf.keys[new.digest]
    await shelf.ring.admit(old.text)
    await shelf.ring.admit(new.text)
    shelf.now_s = 1500.0
    await shelf.ring.admit(new.text)
    with pytest.raises(AuthenticationError, match="replaced"):
        await shelf.ring.admit(old.text)


async def test_without_the_store_known_keys_are_good_for_a_while_and_others_are_not_judged(shelf: Shelf) -> None:
    new, other = new_key(1), new_key(2)
    shelf.put(new)
    await shelf.ring.poll()
    await shelf.ring.admit(new.text)
    shelf.now_s += 10 * TTL_S
    await shelf.ring.poll()
    shelf.is_down = True
    await shelf.ring.poll()
    assert shelf.ring.is_degraded
    shelf.now_s += TTL_S - 1
    assert (await shelf.ring.admit(new.text)).key.id == "k"
    with pytest.raises(Overloaded) as caught:
        await shelf.ring.admit(other.text)
    assert caught.value.retry_after
    shelf.now_s += 1
    with pytest.raises(Overloaded):
        await shelf.ring.admit(new.text)
    shelf.is_down = False
    await shelf.ring.poll()
    assert not shelf.ring.is_degraded
    await shelf.ring.admit(new.text)


async def test_the_store_is_told_when_keys_were_used(shelf: Shelf) -> None:
    shelf.put(new_key())
    await shelf.ring.admit(new_key().text)
    await shelf.ring.poll()
    assert shelf.used == {"k": 1000.0}
