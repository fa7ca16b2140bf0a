"""What is made of a model's file before it is served: once, whole, and no longer than the file is what it was."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import gguf_factory
import msgspec
import pytest
from msgspec import structs

from hodios import config
from hodios.config import Config
from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.whole_folder import UNFINISHED_NAME
from hodios.errors import SetupError, UnsupportedModel
from hodios.providers import prepare as module
from hodios.providers.installed import InstalledModel, installed
from hodios.providers.local import load_local_model
from hodios.providers.prepare import prepare
from hodios.providers.prepared import Prepared, worker_options
from hodios.providers.sockets import MAX_SOCKET_PATH

TINY = gguf_factory.TinyModel(hidden=64, num_layers=1, num_heads=2, num_kv_heads=1, feed_forward=64, context=128)


@pytest.fixture
def home() -> Iterator[Path]:
    """With a short name, as homes have."""
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def settings(home: Path) -> Config:
    return structs.replace(config.load(env={}), home=home)


def install(home: Path, name: str = "author/Tiny-GGUF", file: str = "tiny.Q8_0.gguf", **options: int) -> Path:
    folder = home / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    path: Path = gguf_factory.write(TINY, folder / file, **options)
    return path


def only(home: Path) -> InstalledModel:
    (model,) = installed(home)
    return model


def never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_model", lambda path: pytest.fail(f"{path} was read again"))


def folders(home: Path) -> list[Path]:
    return sorted(path for path in (home / "cache").iterdir() if path.is_dir())


def test_everything_that_serving_needs_is_there(home: Path, settings: Config) -> None:
    path = install(home)
    prepared = prepare(only(home), settings)
    assert prepared.model_file == str(path)
    assert prepared.eos_ids == [0, 2]
    assert Tokenizer.load(prepared.tokenizer_path).vocab_size == 320
    assert b'"model"' in prepared.grammar_tokenizer_path.read_bytes()
    card = prepared.card
    assert (card.id, card.author, card.name, card.license) == ("author/Tiny-GGUF", "author", "tiny llama", "apache-2.0")
    assert (card.context_length, card.max_output_tokens, card.quantization) == (128, 128, "Q8_0")
    assert card.aliases == ("Tiny-GGUF", "Tiny")
    assert card.size_bytes == path.stat().st_size
    assert msgspec.json.decode(msgspec.json.encode(prepared), type=Prepared) == prepared


def test_the_second_time_the_file_is_not_read(home: Path, settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    install(home)
    first = prepare(only(home), settings)
    never_opened(monkeypatch)
    assert prepare(only(home), settings) == first


def test_the_installed_model_says_what_it_is_called(
    home: Path, settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second quantization beside it changes the id, not the file."""
    install(home)
    assert prepare(only(home), settings).card.id == "author/Tiny-GGUF"
    install(home, file="tiny.F32.gguf")
    eight_bits = next(model for model in installed(home) if model.quantization == "Q8_0")
    never_opened(monkeypatch)
    card = prepare(eight_bits, settings).card
    assert card.id == "author/Tiny-GGUF:Q8_0"
    assert "author/Tiny-GGUF" in card.aliases


def test_a_changed_file_is_read_anew(home: Path, settings: Config) -> None:
    path = install(home)
    first = prepare(only(home), settings)
    gguf_factory.write(gguf_factory.TinyModel(context=256), path)
    second = prepare(only(home), settings)
    assert second.folder != first.folder
    assert second.card.context_length == 256
    assert folders(home) == [Path(second.folder)], "what was made of the former file is gone"


def test_a_touched_file_is_read_anew(home: Path, settings: Config) -> None:
    path = install(home)
    first = prepare(only(home), settings)
    os.utime(path, ns=(1, 1))
    assert prepare(only(home), settings).folder != first.folder


def test_a_split_model_is_all_its_parts(home: Path, settings: Config) -> None:
    install(home, file="tiny.gguf", split_tensors=5)
    model = only(home)
    assert len(model.files) > 2
    first = prepare(model, settings)
    os.utime(model.files[-1], ns=(1, 1))
    assert prepare(only(home), settings).folder != first.folder
    assert first.model_file.endswith(f"-00001-of-{len(model.files):05d}.gguf")


def test_a_new_version_makes_everything_anew(home: Path, settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    install(home)
    first = prepare(only(home), settings)
    monkeypatch.setattr(module, "__version__", "999")
    second = prepare(only(home), settings)
    assert folders(home) == [Path(second.folder)]
    assert second.folder != first.folder


def test_what_belongs_to_removed_models_goes_and_nothing_else(home: Path, settings: Config, tmp_path: Path) -> None:
    first_path = install(home, "author/First")
    first = prepare(only(home), settings)
    install(home, "author/Second")
    second = prepare(next(model for model in installed(home) if "Second" in model.id), settings)
    assert folders(home) == sorted([Path(first.folder), Path(second.folder)])
    foreign = home / "cache" / "foreign"
    foreign.mkdir()
    (foreign / "prepared.json").write_text('{"card": {}, "eos_ids": []}')
    broken = home / "cache" / "0123456789abcdef01234567"
    broken.mkdir()
    (broken / "prepared.json").write_text("{")
    (home / "cache" / "notes.txt").write_text("mine")
    shutil.copytree(first.folder, tmp_path / "outside")
    (home / "cache" / "link").symlink_to(tmp_path / "outside")
    first_path.unlink()
    prepare(only(home), settings)
    left = {path.name for path in (home / "cache").iterdir()}
    assert left == {Path(second.folder).name, "foreign", broken.name, "notes.txt", "link", ".lock"}
    assert (tmp_path / "outside" / "prepared.json").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"card":{"id":"x"},"eos_ids":[1]}', b"\xff\xfe"])
def test_a_half_made_folder_is_never_found(content: bytes, home: Path, settings: Config) -> None:
    install(home)
    whole = prepare(only(home), settings)
    folder = Path(whole.folder)
    for path in folder.iterdir():
        path.unlink()
    (folder / "prepared.json").write_bytes(content)
    assert prepare(only(home), settings) == whole
    assert Tokenizer.load(whole.tokenizer_path).vocab_size == 320


def test_a_failure_in_the_middle_leaves_nothing(home: Path, settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    install(home)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_durably", full)
        with pytest.raises(SetupError, match=r"author/Tiny-GGUF cannot be made ready in .*No space left"):
            prepare(only(home), settings)
    assert folders(home) == []
    prepare(only(home), settings)


def test_leftovers_of_a_kill_are_removed(home: Path, settings: Config) -> None:
    install(home)
    (home / "cache" / UNFINISHED_NAME).mkdir(parents=True)
    (home / "cache" / UNFINISHED_NAME / "tokenizer.json").write_text("half")
    prepared = prepare(only(home), settings)
    assert folders(home) == [Path(prepared.folder)]


def test_many_at_once_read_it_once(home: Path, settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    install(home)
    opened: list[Path] = []
    original = module.open_model

    def counted(path: Path) -> object:
        opened.append(path)
        return original(path)

    monkeypatch.setattr(module, "open_model", counted)
    prepared: list[Prepared] = []
    threads = [threading.Thread(target=lambda: prepared.append(prepare(only(home), settings))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(prepared) == 8
    assert len(opened) == 1


def test_a_file_that_cannot_be_served_is_refused(home: Path, settings: Config) -> None:
    install(home).write_bytes(b"GGUF, not really")
    with pytest.raises(UnsupportedModel):
        prepare(only(home), settings)
    assert folders(home) == []


def test_a_model_that_vanished_is_told(home: Path, settings: Config) -> None:
    path = install(home)
    model = only(home)
    path.unlink()
    with pytest.raises(SetupError, match="cannot be made ready"):
        prepare(model, settings)


async def test_a_tokenizer_that_is_gone_is_told_to_the_operator(home: Path, settings: Config) -> None:
    install(home)
    prepared = prepare(only(home), settings)
    prepared.tokenizer_path.unlink()
    with pytest.raises(SetupError, match=r"tokenizer\.json cannot be read"):
        await load_local_model(prepared.card, prepared.tokenizer_path, Path(prepared.socket))


# The socket


def bind(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
    os.unlink(path)


def test_the_socket_lies_beside_the_model(home: Path, settings: Config) -> None:
    install(home)
    path = Path(prepare(only(home), settings).socket)
    assert path.parent == home / "run"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    bind(str(path))


@pytest.mark.parametrize("name", ["x" * 120, "ü" * 60, "deep/" * 30])
def test_a_home_with_a_long_name_has_its_sockets_elsewhere(name: str, home: Path, settings: Config) -> None:
    install(home / name)
    prepared = prepare(only(home / name), structs.replace(settings, home=home / name))
    path = Path(prepared.socket)
    assert len(os.fsencode(path)) <= MAX_SOCKET_PATH
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    bind(str(path))
    path.parent.rmdir()


def test_two_servers_of_one_home_have_two_sockets(
    home: Path, settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(home)
    first = prepare(only(home), settings)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert prepare(only(home), settings).socket != first.socket


def test_two_long_homes_have_two_sockets(home: Path, settings: Config) -> None:
    sockets = set()
    for name in ("a" * 120, "b" * 120):
        install(home / name)
        sockets.add(prepare(only(home / name), structs.replace(settings, home=home / name)).socket)
    assert len(sockets) == 2
    for path in sockets:
        Path(path).parent.rmdir()


def test_a_socket_folder_open_to_others_is_refused(home: Path, settings: Config) -> None:
    install(home)
    (home / "run").mkdir()
    (home / "run").chmod(0o777)
    with pytest.raises(SetupError, match="run is to hold the engines' sockets"):
        prepare(only(home), settings)


def test_a_link_for_a_socket_folder_is_refused(home: Path, settings: Config, tmp_path: Path) -> None:
    install(home)
    (home / "run").symlink_to(tmp_path)
    with pytest.raises(SetupError, match="sockets"):
        prepare(only(home), settings)


def test_the_worker_is_started_with_the_settings(home: Path, settings: Config) -> None:
    install(home)
    prepared = prepare(only(home), settings)
    chosen = structs.replace(settings, threads=3, exact=True, speculation=False, kv_cache_bytes=77, context_length=99)
    options = worker_options(prepared, chosen)
    assert (options.model_path, options.socket_path) == (prepared.model_file, prepared.socket)
    assert (options.cache_folder, options.eos_ids) == (prepared.folder, [0, 2])
    assert (options.threads, options.is_exact, options.speculates) == (3, True, False)
    assert (options.kv_cache_bytes, options.context_length) == (77, 99)
    assert worker_options(prepared, settings).threads >= 1
