"""Other people's programs: where they come from, and a relay that keeps what the server told them."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_server import LiveServer, run_apart, start

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "providers"))

from remote_server import RemoteServer, settings_for
from sensible_model import answer
from upstream_thread import upstream_in_thread

OPENAI_MAJOR = "6"
"""The last one that Debian's Node.js runs."""


@pytest.fixture(scope="session")
def node(need: Callable[[str, str], str]) -> str:
    return need("node", "nodejs")


@pytest.fixture(scope="session")
def node_folder(repository: Path, node: str, need: Callable[[str, str], str]) -> Path:
    """A folder whose node_modules has OpenAI's JavaScript client."""
    folder = repository / ".cache" / f"node-openai-{OPENAI_MAJOR}"
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix="node-", dir=folder.parent))
        command = [need("npm", "npm"), "install", "--no-audit", "--no-fund", f"openai@{OPENAI_MAJOR}"]
        installed = run_apart([*command, "--prefix", str(unfinished)])
        if installed.returncode:
            pytest.fail(f"{' '.join(command)} failed: {installed.stderr}")
        try:
            unfinished.rename(folder)
        except OSError:
            # Another run of the tests was faster.
            shutil.rmtree(unfinished)
    return folder


@pytest.fixture(scope="session")
def terse_server(start_server: Callable[..., LiveServer]) -> LiveServer:
    """For programs that set no limit: the little model sometimes rambles on for as long as it may."""
    return start_server(HODIOS_CONTEXT_LENGTH="640")


@pytest.fixture(scope="session")
def remote_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteServer]:
    """A server whose models all come from a scripted upstream, in several degrees of knowing things."""
    folder = tmp_path_factory.mktemp("remote")
    with upstream_in_thread(answer) as upstream:
        server = start(folder, folder / "log.txt", **settings_for(upstream.url))
        try:
            yield RemoteServer(server, upstream)
        finally:
            assert server.stop() == 0, server.told()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A class may say which of the tests that it inherits cannot be run, and why: `left_out`."""

    def is_left_out(item: pytest.Item) -> bool:
        return item.name.partition("[")[0] in getattr(getattr(item, "cls", None), "left_out", ())

    left_out = [item for item in items if is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not is_left_out(item)]
