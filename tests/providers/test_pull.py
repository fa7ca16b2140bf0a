"""Against a server that speaks the hub's protocol and breaks it on demand."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fake_hub import FakeHub, serving_hub, sha256

from hodios.errors import DownloadFailed
from hodios.providers import download, files
from hodios.providers.catalog import Catalog, Rows, make_catalog
from hodios.providers.catalog_rows import Hub as HubRow
from hodios.providers.catalog_rows import ModelRow
from hodios.providers.download import Source, fetch
from hodios.providers.installed import installed
from hodios.providers.pull import pull

MODEL = b"GGUF" + random.Random(0).randbytes(300_000)
OTHER = b"GGUF" + random.Random(1).randbytes(200_000)


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with serving_hub(FakeHub({"tiny-Q4_K_M.gguf": MODEL})) as fake:
        yield fake


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.0)


def silent(name: str, done: int, total: int | None) -> None:
    pass


async def pulled(hub: FakeHub, home: Path, what: str = "maker/tiny-GGUF", token: str | None = None) -> Path:
    return await pull(what, home, silent, endpoint=hub.endpoint, token=token)


def leftovers(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "models").rglob("*") if path.is_file() and path.suffix != ".gguf")


def catalog_of(*repositories: str) -> Catalog:
    row = ModelRow(
        id="Author/Tiny-1B",
        name="Tiny",
        author="Author",
        aliases=("tiny",),
        family="chatml",
        context_length=64,
        hub=HubRow(safetensors="Author/Tiny-1B", gguf=repositories),
    )
    rows = Rows({}, {row.id: row}, {})
    return make_catalog(rows, (), {}, lambda variable: None, version=1)


@pytest.mark.parametrize("name", ["Author/Tiny-1B", "TINY", "author/tiny-1b:q4_k_m"])
async def test_a_model_of_the_catalog_lies_under_its_own_id(hub: FakeHub, tmp_path: Path, name: str) -> None:
    catalog = catalog_of("nobody/nothing", "maker/tiny-GGUF")
    path = await pull(name, tmp_path, silent, endpoint=hub.endpoint, catalog=catalog)
    assert path == tmp_path / "models/Author/Tiny-1B/tiny-Q4_K_M.gguf"
    assert path.read_bytes() == MODEL
    assert [model.id for model in installed(tmp_path)] == ["Author/Tiny-1B"]
    assert await pull(name, tmp_path, silent, endpoint=hub.endpoint, catalog=catalog) == path


async def test_a_repository_that_the_catalog_knows_is_still_a_repository(hub: FakeHub, tmp_path: Path) -> None:
    catalog = catalog_of("maker/tiny-GGUF")
    path = await pull("maker/tiny-GGUF", tmp_path, silent, endpoint=hub.endpoint, catalog=catalog)
    assert path == tmp_path / "models/maker/tiny-GGUF/tiny-Q4_K_M.gguf"


@pytest.mark.parametrize(
    ("repositories", "told"),
    [
        ((), "The catalog knows no GGUF file of Author/Tiny-1B"),
        (("nobody/a", "nobody/b"), "shows no model 'nobody/a'(.|\n)*shows no model 'nobody/b'"),
    ],
)
async def test_a_model_of_the_catalog_that_cannot_be_had(
    hub: FakeHub, tmp_path: Path, repositories: tuple[str, ...], told: str
) -> None:
    with pytest.raises(DownloadFailed, match=told):
        await pull("tiny", tmp_path, silent, endpoint=hub.endpoint, catalog=catalog_of(*repositories))
    assert not (tmp_path / "models").exists()


async def test_a_model_arrives_whole(hub: FakeHub, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    path = await pull("maker/tiny-GGUF", tmp_path, lambda *step: seen.append(step), endpoint=hub.endpoint)
    assert path == tmp_path / "models/maker/tiny-GGUF/tiny-Q4_K_M.gguf"
    assert path.read_bytes() == MODEL
    assert leftovers(tmp_path) == []
    assert seen[0] == ("tiny-Q4_K_M.gguf", 0, len(MODEL))
    assert seen[-1] == ("tiny-Q4_K_M.gguf", len(MODEL), len(MODEL))
    assert [model.id for model in installed(tmp_path)] == ["maker/tiny-GGUF"]
    assert "/resolve/c0ffee/" in hub.requests[1][0]


@pytest.mark.parametrize("every", [1_000, 4_096, 65_536, 100_001, 299_999, len(MODEL) - 1])
async def test_cut_connections_are_continued(hub: FakeHub, tmp_path: Path, every: int) -> None:
    hub.cut_after = every
    path = await pulled(hub, tmp_path)
    assert path.read_bytes() == MODEL
    ranges = hub.ranges()
    assert ranges == sorted(ranges)
    assert ranges[-1] > 0


async def test_a_cut_of_unknown_length_is_noticed(hub: FakeHub, tmp_path: Path) -> None:
    hub.unlisted_size = True
    hub.cut_after = 100_000
    assert (await pulled(hub, tmp_path)).read_bytes() == MODEL


async def test_giving_up_keeps_the_piece_for_the_next_call(hub: FakeHub, tmp_path: Path) -> None:
    await interrupt(hub, tmp_path)
    part = tmp_path / "models/maker/tiny-GGUF/tiny-Q4_K_M.gguf.part"
    assert part.read_bytes() == MODEL[: part.stat().st_size]
    assert part.stat().st_size == 100_000
    assert installed(tmp_path) == []
    hub.requests.clear()
    assert (await pulled(hub, tmp_path)).read_bytes() == MODEL
    assert hub.ranges() == [100_000]
    assert leftovers(tmp_path) == []


async def interrupt(hub: FakeHub, home: Path) -> None:
    """One answer that is cut after 100,000 bytes, then nothing but 503."""

    def progress(name: str, done: int, total: int | None) -> None:
        if done == 100_000:
            hub.statuses = [503] * 100

    hub.cut_after = 100_000
    with pytest.raises(DownloadFailed, match="100000 bytes are kept; the same command continues there"):
        await pull("maker/tiny-GGUF", home, progress, endpoint=hub.endpoint)
    hub.cut_after, hub.statuses = None, []


async def test_pauses_grow_and_the_server_may_ask_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    asked = iter([None, None, "7", None, None, None])
    pauses: list[float] = []

    async def unwilling(request: web.Request) -> web.Response:
        seconds = next(asked)
        return web.Response(status=503, headers={"Retry-After": seconds} if seconds else {})

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)

    application = web.Application()
    application.router.add_get("/x.gguf", unwilling)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        with pytest.raises(DownloadFailed, match="6 times in a row: the server answers 503"):
            await fetch(session, Source(url=str(server.make_url("/x.gguf"))), tmp_path / "x.gguf", silent, sleep)
    assert pauses == [0.5, 1.0, 7.0, 4.0, 8.0]


async def test_a_piece_of_another_version_is_not_kept(hub: FakeHub, tmp_path: Path) -> None:
    await interrupt(hub, tmp_path)
    hub.files["tiny-Q4_K_M.gguf"] = OTHER
    assert (await pulled(hub, tmp_path)).read_bytes() == OTHER


async def test_a_changed_entity_tag_starts_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after = 100_000
    hub.etags = iter(f'"v{min(number, 2)}"' for number in range(1000))
    assert (await pulled(hub, tmp_path)).read_bytes() == MODEL
    assert leftovers(tmp_path) == []


async def test_a_server_without_ranges_starts_again(hub: FakeHub, tmp_path: Path) -> None:
    await interrupt(hub, tmp_path)
    hub.supports_ranges = False
    assert (await pulled(hub, tmp_path)).read_bytes() == MODEL


async def test_a_spoilt_piece_is_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    await interrupt(hub, tmp_path)
    part = tmp_path / "models/maker/tiny-GGUF/tiny-Q4_K_M.gguf.part"
    part.write_bytes(b"GGUF" + bytes(99_996))
    assert (await pulled(hub, tmp_path)).read_bytes() == MODEL


async def test_a_piece_that_is_complete_is_not_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    await interrupt(hub, tmp_path)
    part = tmp_path / "models/maker/tiny-GGUF/tiny-Q4_K_M.gguf.part"
    part.write_bytes(MODEL)
    assert (await pulled(hub, tmp_path)).read_bytes() == MODEL
    assert hub.ranges()[-1] == len(MODEL)


async def test_a_wrong_checksum_leaves_nothing(hub: FakeHub, tmp_path: Path) -> None:
    hub.served["tiny-Q4_K_M.gguf"] = MODEL[:-1] + bytes([MODEL[-1] ^ 1])
    with pytest.raises(DownloadFailed, match=f"{sha256(MODEL)} was expected"):
        await pulled(hub, tmp_path)
    assert leftovers(tmp_path) == []
    assert installed(tmp_path) == []


async def test_another_size_than_announced_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    hub.served["tiny-Q4_K_M.gguf"] = MODEL + b"x"
    with pytest.raises(DownloadFailed, match="were announced"):
        await pulled(hub, tmp_path)


async def test_a_file_that_is_no_gguf_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    hub.files = {"tiny-Q4_K_M.gguf": b"<html>please log in</html>"}
    with pytest.raises(DownloadFailed, match="is no GGUF file: it begins with b'<htm'"):
        await pulled(hub, tmp_path)


async def test_an_unknown_model_is_told(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"shows no model 'maker/huge' \(404\). Check the spelling"):
        await pulled(hub, tmp_path, "maker/huge")


async def test_a_gated_model_names_the_token(hub: FakeHub, tmp_path: Path) -> None:
    hub.token = "hf_secret"
    with pytest.raises(DownloadFailed, match="HF_TOKEN"):
        await pulled(hub, tmp_path)
    await pulled(hub, tmp_path, token="hf_secret")


async def test_the_token_stays_with_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    await pulled(hub, tmp_path, token="hf_secret")
    with_token = {path.split("/")[1] for path, headers in hub.requests if "Authorization" in headers}
    assert with_token == {"api", "maker"}


@pytest.mark.parametrize(("status", "words"), [(403, "HF_TOKEN"), (404, "does not exist"), (451, "answers 451")])
async def test_final_answers_are_not_retried(hub: FakeHub, tmp_path: Path, status: int, words: str) -> None:
    hub.statuses = [status, status]
    with pytest.raises(DownloadFailed, match=words):
        await pulled(hub, tmp_path)
    assert hub.statuses == [status]


async def test_no_network_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="could not be asked about maker/tiny"):
        await pull("maker/tiny", tmp_path, silent, endpoint="http://127.0.0.1:1")


async def test_a_full_disk_is_told_before_the_first_byte(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(DownloadFailed, match=r"0\.00 GB are free"):
        await pulled(hub, tmp_path)
    assert hub.ranges() == []


async def test_the_usual_quantization_is_preferred(hub: FakeHub, tmp_path: Path) -> None:
    hub.files = {"tiny-Q8_0.gguf": OTHER, "tiny-Q4_K_M.gguf": MODEL, "tiny-Q2_K.gguf": OTHER}
    assert (await pulled(hub, tmp_path)).name == "tiny-Q4_K_M.gguf"


@pytest.mark.parametrize("what", ["maker/tiny-GGUF:q8_0", "maker/tiny-GGUF/sub/tiny-Q8_0.gguf"])
async def test_one_of_several_can_be_named(hub: FakeHub, tmp_path: Path, what: str) -> None:
    hub.files = {"tiny-Q4_K_M.gguf": MODEL, "sub/tiny-Q8_0.gguf": OTHER}
    path = await pulled(hub, tmp_path, what)
    assert path == tmp_path / "models/maker/tiny-GGUF/tiny-Q8_0.gguf"
    assert path.read_bytes() == OTHER


@pytest.mark.parametrize("page", ["", "/blob/main/tiny-Q8_0.gguf", "/resolve/main/tiny-Q8_0.gguf?download=true"])
async def test_pages_of_the_hub_are_understood(hub: FakeHub, tmp_path: Path, page: str) -> None:
    hub.files = {"tiny-Q4_K_M.gguf": MODEL, "tiny-Q8_0.gguf": OTHER}
    path = await pulled(hub, tmp_path, f"{hub.endpoint}/maker/tiny-GGUF{page}")
    assert path.name == ("tiny-Q8_0.gguf" if page else "tiny-Q4_K_M.gguf")
    assert path.parent.name == "tiny-GGUF"


async def test_choices_are_listed(hub: FakeHub, tmp_path: Path) -> None:
    hub.files = {"tiny-IQ2_M.gguf": OTHER, "tiny-Q3_K_L.gguf": MODEL}
    with pytest.raises(DownloadFailed, match=r"(?s)several GGUF models.*hodios pull maker/tiny-GGUF/tiny-IQ2_M.gguf"):
        await pulled(hub, tmp_path)
    with pytest.raises(DownloadFailed, match="has no GGUF models 'Q8_0'"):
        await pulled(hub, tmp_path, "maker/tiny-GGUF:Q8_0")


async def test_a_repository_without_gguf_is_told(hub: FakeHub, tmp_path: Path) -> None:
    hub.files = {"model.safetensors": MODEL, "mmproj-F16.gguf": OTHER}
    with pytest.raises(DownloadFailed, match="holds no GGUF file"):
        await pulled(hub, tmp_path)


async def test_all_parts_of_a_split_model_are_fetched(hub: FakeHub, tmp_path: Path) -> None:
    hub.files = {f"Q4_K_M/tiny-Q4_K_M-0000{n}-of-00003.gguf": MODEL[: 1000 * n] for n in (1, 2, 3)}
    path = await pulled(hub, tmp_path)
    [model] = installed(tmp_path)
    assert path == model.path
    assert model.path.name == "tiny-Q4_K_M-00001-of-00003.gguf"
    assert model.size_bytes == 6000
    path.with_name("tiny-Q4_K_M-00002-of-00003.gguf").unlink()
    assert installed(tmp_path) == []
    hub.requests.clear()
    await pulled(hub, tmp_path)
    assert len(hub.ranges()) == 1


async def test_an_incomplete_split_of_the_hub_is_no_choice(hub: FakeHub, tmp_path: Path) -> None:
    hub.files = {"tiny-Q4_K_M-00001-of-00002.gguf": MODEL}
    with pytest.raises(DownloadFailed, match="holds no GGUF file"):
        await pulled(hub, tmp_path)


@pytest.mark.parametrize(
    "what",
    ["../../etc", "..", "a/..", "../a", "a/b/../../c", "/etc/passwd", "a\\..\\b", "a/\0", "maker", "", "~root/x",
     "a/.b", "%2e%2e/x", "a//b", "-rf/x", "a b/c", "é/x"],
)  # fmt: skip
async def test_no_name_leads_out_of_the_folder(hub: FakeHub, tmp_path: Path, what: str) -> None:
    home = tmp_path / "deep" / "home"
    with pytest.raises(DownloadFailed):
        await pulled(hub, home, what)
    outside = [path for path in tmp_path.rglob("*") if home not in (path, *path.parents) and path != home.parent]
    assert outside == []


@pytest.mark.parametrize("name", ["../../evil.gguf", "a/../../evil-Q4_0.gguf", "..gguf", ".hidden.gguf", "x\\y.gguf"])
async def test_names_that_the_hub_gives_do_not_lead_out(hub: FakeHub, tmp_path: Path, name: str) -> None:
    hub.files = {name: MODEL}
    home = tmp_path / "home"
    try:
        path = await pulled(hub, home)
    except DownloadFailed:
        assert not list(tmp_path.rglob("*.gguf"))
    else:
        assert path.parent == home / "models/maker/tiny-GGUF"
        assert list(tmp_path.rglob("*.gguf")) == [path]


async def test_a_url_becomes_a_local_model(hub: FakeHub, tmp_path: Path) -> None:
    path = await pulled(hub, tmp_path, f"{hub.store_url}/tiny-Q4_K_M.gguf")
    assert path == tmp_path / "models/local/tiny-Q4_K_M/tiny-Q4_K_M.gguf"
    assert path.read_bytes() == MODEL


async def test_a_url_is_resumed_by_its_entity_tag(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after = 100_000
    path = await pulled(hub, tmp_path, f"{hub.store_url}/tiny-Q4_K_M.gguf")
    assert path.read_bytes() == MODEL
    assert hub.ranges() == [0, 100_000, 200_000, 300_000]


@pytest.mark.parametrize("name", ["%2e%2e%2fevil.gguf", "model.bin", ".gguf", "..gguf", "a%00.gguf"])
async def test_a_url_with_an_unusable_name_is_refused(hub: FakeHub, tmp_path: Path, name: str) -> None:
    try:
        path = await pulled(hub, tmp_path, f"{hub.store_url}/{name}")
    except DownloadFailed:
        return
    assert path == tmp_path / "models/local/evil/evil.gguf"


async def test_a_file_is_copied(tmp_path: Path) -> None:
    source = tmp_path / "my.Model-Q8_0.gguf"
    source.write_bytes(MODEL)
    path = await pull(str(source), tmp_path / "home", silent, endpoint="http://127.0.0.1:1")
    source.unlink()
    assert path.read_bytes() == MODEL
    [model] = installed(tmp_path / "home")
    assert (model.id, model.quantization) == ("local/my.Model-Q8_0", "Q8_0")


async def test_a_split_file_is_copied_with_its_parts(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    parts[1].write_bytes(MODEL)
    with pytest.raises(DownloadFailed, match=r"m-00001-of-00002.gguf is not beside it"):
        await pull(str(parts[1]), tmp_path / "home", silent, endpoint="http://127.0.0.1:1")
    parts[0].write_bytes(OTHER)
    path = await pull(str(parts[1]), tmp_path / "home", silent, endpoint="http://127.0.0.1:1")
    assert path == tmp_path / "home/models/local/m/m-00001-of-00002.gguf"
    assert len(installed(tmp_path / "home")[0].files) == 2


async def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="is not a file"):
        await pull("./nothing.gguf", tmp_path, silent, endpoint="http://127.0.0.1:1")


async def test_what_cannot_be_written_is_told(hub: FakeHub, tmp_path: Path) -> None:
    target = tmp_path / "x.gguf"
    (tmp_path / "x.gguf.part").mkdir()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(DownloadFailed, match="cannot be written"):
            await fetch(session, Source(url=f"{hub.store_url}/tiny-Q4_K_M.gguf"), target, silent)
