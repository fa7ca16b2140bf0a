"""Files that change under a running server: the last version that makes sense counts, and nobody sees half of one."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from catalog_files import MODEL, PROVIDER, store, write
from hypothesis import given
from hypothesis import strategies as st

from hodios.config import Config
from hodios.errors import ConfigError
from hodios.providers.catalog_rows import Offer
from hodios.providers.catalog_store import CatalogStore

BAD = MODEL.replace("8192", "'?'")


def context(catalogs: CatalogStore) -> int:
    return catalogs.current.models["Maker/Big-7B"].context_length


def test_changes_are_seen(tmp_path: Path) -> None:
    catalogs = store(write(tmp_path))
    assert not catalogs.reload_if_changed()
    before = catalogs.current
    write(tmp_path, model=MODEL.replace("8192", "16384"))
    assert catalogs.reload_if_changed()
    assert (context(catalogs), catalogs.current.version, before.version) == (16384, 2, 1)
    assert before.models["Maker/Big-7B"].context_length == 8192, "who holds a version keeps it"
    assert not catalogs.reload_if_changed()


def test_a_bad_file_keeps_the_last_good_version_and_says_why(tmp_path: Path) -> None:
    catalogs = store(write(tmp_path))
    before = catalogs.current
    write(tmp_path, model=BAD)
    assert not catalogs.reload_if_changed()
    assert catalogs.current is before
    assert "big.toml: context_length = '?' is not accepted" in catalogs.problem
    assert not catalogs.reload_if_changed(), "it is not read again until it changes"
    assert not catalogs.reload()
    write(tmp_path)
    assert catalogs.reload_if_changed()
    assert (catalogs.problem, catalogs.current) == ("", before), "the same rows are the same version"


def test_files_may_come_and_go(tmp_path: Path) -> None:
    catalogs = store(write(tmp_path))
    other = PROVIDER.replace("acme", "other")
    write(tmp_path, more={"providers/other.toml": other})
    assert catalogs.reload_if_changed()
    assert catalogs.current.is_active("other")
    (tmp_path / "providers/other.toml").unlink()
    assert catalogs.reload_if_changed()
    assert not catalogs.current.is_active("other")
    (tmp_path / "providers/acme.toml").unlink()
    assert not catalogs.reload_if_changed()
    assert "has an offer of 'acme', which there is not" in catalogs.problem


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    catalogs = store(write(tmp_path))
    path = tmp_path / "models/dangling.toml"
    os.symlink(tmp_path / "nowhere", path)
    assert not catalogs.reload()
    assert "dangling.toml cannot be read" in catalogs.problem


def test_a_home_with_a_bad_file_starts_with_what_comes_with_hodios(tmp_path: Path) -> None:
    write(tmp_path / "catalog", model=BAD)
    catalogs = CatalogStore(Config(home=tmp_path), lambda variable: None)
    assert catalogs.current.find("Hermes-2-Pro-Llama-3-8B") is not None
    assert "big.toml" in catalogs.problem
    write(tmp_path / "catalog")
    assert catalogs.reload_if_changed()
    assert catalogs.current.find("big") is not None
    assert catalogs.problem == ""


def test_rows_that_come_with_hodios_must_be_good(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"big\.toml"):
        store(write(tmp_path, model=BAD))


def test_a_row_of_ones_own_replaces_a_shipped_one(tmp_path: Path) -> None:
    folder = tmp_path / "catalog" / "providers"
    folder.mkdir(parents=True)
    (folder / "novita.toml").write_text(PROVIDER.replace("acme", "novita"))
    catalogs = CatalogStore(Config(home=tmp_path), lambda variable: None)
    assert catalogs.problem == ""
    assert catalogs.current.providers["novita"].base_url == "https://api.novita.example/v1"


def test_readers_never_see_half_of_a_change(tmp_path: Path) -> None:
    """The context of the model and of its offer change together, in two files."""
    offered = PROVIDER + 'offers = [{ id = "x", model = "Maker/Big-7B", context_length = %d }]\n'
    bare = MODEL.partition("[[offers]]")[0]
    catalogs = store(write(tmp_path, provider=offered % 8192, model=bare))
    seen, wrong, is_over = set(), [], threading.Event()

    def read() -> None:
        last = 0
        while not is_over.is_set():
            catalog = catalogs.current
            pair = (catalog.models["Maker/Big-7B"].context_length, catalog.offers[0].context_length)
            seen.add(pair)
            if pair[0] != pair[1] or catalog.version < last:
                wrong.append(pair)
            last = catalog.version

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for step in range(15):
        number = 1000 + step
        model = bare.replace("8192", str(number)) if step % 3 else BAD
        write(tmp_path, provider=offered % number, model=model)
        assert catalogs.reload() == bool(step % 3)
    is_over.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert context(catalogs) == 1014
    assert len(seen) > 1


def test_writers_in_many_threads_lose_nothing(tmp_path: Path) -> None:
    catalogs = store(write(tmp_path), {f"own{n}": {"base_url": "http://127.0.0.1:1/v1"} for n in range(8)})

    def put(number: int) -> None:
        for step in range(1, 11):
            catalogs.put_live(f"own{number}", [Offer(id=f"model-{number}", context_length=step)])
            catalogs.reload()

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert catalogs.current.version == 81
    assert {offer.context_length for offer in catalogs.current.offers if offer.provider != "acme"} == {10}


@given(st.lists(st.tuples(st.sampled_from(["good", "other", "bad", "live", "gone"]), st.integers(1, 3)), max_size=8))
def test_whatever_happens_the_last_good_version_counts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder = write(tmp_path_factory.mktemp("catalog"))
    catalogs = store(folder)
    expected, version = 8192, 1
    for what, number in steps:
        if what == "live":
            catalogs.put_live("acme", [Offer(id="maker/big", context_length=number)])
        elif what == "gone":
            catalogs.put_live("acme", [])
        else:
            good = {"good": 8192, "other": 100 + number}.get(what)
            write(folder, model=BAD if good is None else MODEL.replace("8192", str(good)))
            assert catalogs.reload() == (good is not None)
            assert bool(catalogs.problem) == (good is None)
            expected = good or expected
        assert context(catalogs) == expected
        assert version <= catalogs.current.version <= version + 1
        version = catalogs.current.version
