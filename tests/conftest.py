"""Options, profiles and fixtures that every test may use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from xdist.remote import Producer

from hodios.config import KEY_ENDINGS
from hodios.providers.starter import fetch_starter, verify_starter

REPOSITORY = Path(__file__).parent.parent
sys.path.append(str(REPOSITORY / "tests"))

from distribution import Distribution, order  # noqa: E402 - it lies beside this file
from live_server import LiveServer, start  # noqa: E402

# Derandomized, so that a run says the same wherever it runs; without a deadline, because cores are shared.
settings.register_profile(
    "hodios", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("hodios")
# Nor may what a test tries depend on the literals of the modules that happen to be loaded before it.
providers._get_local_constants = providers.Constants


def pytest_configure() -> None:
    # A shell makes what it starts in the background deaf to Ctrl-C, and so would be every program that is tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long checks whole")
    parser.addoption("--pictures", metavar="FOLDER", help="keep pictures of the web page there")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Distribution | None:
    return Distribution(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        order(items)
    if config.getoption("--full"):
        return
    long = [item for item in items if item.get_closest_marker("full")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own HODIOS_* variables must not change what tests see."""
    for name in [name for name in os.environ if name.startswith("HODIOS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="session")
def _no_keys_from_outside() -> Iterator[None]:
    """A developer's own keys would have providers of the catalog asked."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.endswith(KEY_ENDINGS)]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def alone() -> Callable[[str], contextlib.AbstractContextManager[None]]:
    """`with alone(name)`: no other process of the tests is in the block of that name. For what is fetched once."""

    @contextlib.contextmanager
    def locked(name: str) -> Iterator[None]:
        cache = REPOSITORY / ".cache"
        cache.mkdir(exist_ok=True)
        with (cache / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    return locked


@pytest.fixture(scope="session")
def cache_home() -> Path:
    """A HODIOS_HOME that lasts from run to run, inside the checkout: models and built graphs are kept there."""
    home = REPOSITORY / ".cache" / "home"
    home.mkdir(parents=True, exist_ok=True)
    return home


@pytest.fixture(scope="session")
def starter_model_path(cache_home: Path) -> Path:
    """The starter model's GGUF file, downloaded by our own code where it is not there yet."""
    path = fetch_starter(cache_home, progress=lambda name, done, total: None)
    verify_starter(cache_home)
    return path


@pytest.fixture(scope="session")
def need(alone: Callable[[str], contextlib.AbstractContextManager[None]]) -> Callable[[str, str], str]:
    """`need(program, package)`: the program's path; installs Debian's package where that is allowed, else fails."""

    def find(program: str, package: str) -> str:
        with alone("packages"):
            found = subprocess.run(
                [REPOSITORY / "scripts" / "need", program, package], capture_output=True, text=True, check=False
            )
        if found.returncode:
            pytest.fail(found.stderr.strip())
        return found.stdout.strip()

    return find


@pytest.fixture
def hodios_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HODIOS_HOME that ends with the test, set in the environment; no hodios.toml lies about."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HODIOS_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture(scope="session")
def start_server(
    cache_home: Path, starter_model_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., LiveServer]]:
    """Starts `hodios serve` on a free port; keywords are settings, as HODIOS_*. All are stopped at the end."""
    servers = []

    def begin(**settings: str) -> LiveServer:
        server = start(cache_home, tmp_path_factory.mktemp("server") / "log.txt", **settings)
        servers.append(server)
        return server

    yield begin
    for server in servers:
        if server.process.poll() is None:
            assert server.stop() == 0, server.told()


@pytest.fixture(scope="session")
def live_server(start_server: Callable[..., LiveServer]) -> LiveServer:
    """One for all tests that leave it as it is. A short context, because what the seeds ask has no longest answer."""
    return start_server(HODIOS_CONTEXT_LENGTH="2048")
