"""`hodios doctor` and other servers of this machine: each is known by its own routes, and its rows can be pasted."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hodios.cli.checks import check_launches, check_others
from hodios.config import Config, load

LISTS: dict[str, dict[str, Any]] = {
    "ollama": {
        "/api/version": {"version": "0.12.0"},
        "/api/tags": {"models": [{"name": "llama3.2:1b", "model": "llama3.2:1b", "details": {}}]},
        "/api/ps": {"models": [{"name": "llama3.2:1b", "context_length": 4096}]},
        "/v1/models": {"object": "list", "data": [{"id": "llama3.2:1b", "owned_by": "library"}]},
    },
    "lm_studio": {
        "/api/v0/models": {"data": [{"id": "qwen2.5-7b", "type": "llm", "max_context_length": 32768}]},
        "/v1/models": {"data": [{"id": "qwen2.5-7b"}]},
    },
    "llama_server": {
        "/props": {"default_generation_settings": {"n_ctx": 2048}, "total_slots": 2},
        "/v1/models": {"data": [{"id": 'a "quoted" name', "meta": {"n_ctx_train": 8192}}]},
    },
    "vllm": {
        "/version": {"version": "0.12.0"},
        "/v1/models": {"data": [{"id": "org/model", "owned_by": "vllm", "max_model_len": 4096}]},
    },
}
"""Route → answer, in the shapes that their documentation shows."""
MODELS = {
    "ollama": ("llama3.2:1b", 4096),
    "lm_studio": ("qwen2.5-7b", 32768),
    "llama_server": ('a "quoted" name', 2048),
    "vllm": ("org/model", 4096),
}
Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(routes)` → the origin of a server that has these routes; a number stands for a status without JSON."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def begin(routes: dict[str, Any]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told = routes.get(self.path, 404)
                body = b"Not JSON" if isinstance(told, int) else msgspec.json.encode(told)
                self.send_response(told if isinstance(told, int) else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield begin
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("kind", LISTS)
def test_each_kind_is_known_by_its_own_routes(kind: str, serve: Serve, hodios_home: Path) -> None:
    origin = serve(LISTS[kind])
    (check,) = check_others(Config(home=hodios_home), [origin])
    id, context = MODELS[kind]
    assert check.status == "ok"
    assert id in check.found
    assert tomllib.loads(check.rows) == {
        "providers": {kind: {"base_url": f"{origin}/v1", "models": [{"id": id, "context_length": context}]}}
    }


@pytest.mark.parametrize("kind", LISTS)
def test_the_rows_are_settings(kind: str, serve: Serve, hodios_home: Path) -> None:
    (check,) = check_others(Config(home=hodios_home), [serve(LISTS[kind])])
    (hodios_home / "hodios.toml").write_text(check.rows)
    (section,) = load().providers
    assert (section.name, [model.id for model in section.models]) == (kind, [MODELS[kind][0]])


def test_several_of_a_kind_get_names_of_their_own(serve: Serve, hodios_home: Path) -> None:
    origins = [serve(LISTS["vllm"]) for _ in range(3)]
    checks = list(check_others(Config(home=hodios_home), origins))
    (hodios_home / "hodios.toml").write_text("\n".join(check.rows for check in checks))
    sections = load().providers
    assert [section.name for section in sections] == ["vllm", "vllm_2", "vllm_3"]
    assert [section.kind for section in sections] == ["", "vllm", "vllm"]


def test_what_is_in_the_settings_is_not_offered_again(serve: Serve, hodios_home: Path) -> None:
    origin = serve(LISTS["vllm"])
    (hodios_home / "hodios.toml").write_text(
        f'[providers.mine]\nbase_url = "{origin.replace("127.0.0.1", "localhost")}/v1"'
    )
    (check,) = check_others(load(), [origin])
    assert "in the settings already" in check.found
    assert not check.rows


def test_this_very_server_is_passed_over(serve: Serve, hodios_home: Path) -> None:
    origin = serve(LISTS["vllm"])
    (check,) = check_others(Config(home=hodios_home, port=int(origin.rpartition(":")[2])), [origin])
    assert check.found.startswith("none")


def test_a_server_behind_a_key_is_told_and_its_rows_name_the_variable(serve: Serve, hodios_home: Path) -> None:
    (check,) = check_others(Config(home=hodios_home), [serve({"/version": {"version": "1"}, "/v1/models": 401})])
    assert tomllib.loads(check.rows)["providers"]["vllm"]["api_key_env"] == "VLLM_API_KEY"


@pytest.mark.parametrize(
    "routes",
    [
        {},
        {"/": {"name": "something else"}},
        {"/version": {"version": "1"}, "/v1/models": {"data": [{"id": "x", "owned_by": "hodios"}]}},
        {"/version": 200, "/props": 503, "/api/version": [], "/api/v0/models": {"data": None}},
        {"/version": {"version": 1}, "/props": {"other": 1}, "/v1/models": {"data": 7}},
    ],
)
def test_whoever_is_something_else_is_let_be(routes: dict[str, Any], serve: Serve, hodios_home: Path) -> None:
    (check,) = check_others(Config(home=hodios_home), [serve(routes)])
    assert (check.status, check.rows) == ("ok", "")
    assert check.found.startswith("none")


def test_nobody_there(hodios_home: Path) -> None:
    (check,) = check_others(Config(home=hodios_home), ["http://127.0.0.1:1"])
    assert check.found.startswith("none")


@pytest.mark.parametrize(
    ("command", "kind", "status", "told"),
    [
        ("sh -c 'x {port}'", "vllm", "ok", "/sh, kind vllm"),
        ("{python} -m x {port}", "sglang", "ok", "python"),
        ("no-such-program-here {port}", "vllm", "fail", "no-such-program-here is not found"),
        ("sh {port}", "vlm", "fail", "Did you mean vllm?"),
        ("sh {port}", "openrouter", "fail", "there is no kind of server 'openrouter'"),
    ],
)
def test_servers_to_start_are_looked_at(command: str, kind: str, status: str, told: str, hodios_home: Path) -> None:
    (hodios_home / "hodios.toml").write_text(f'[[launch]]\nname = "x"\ncommand = "{command}"\nkind = "{kind}"')
    (check,) = check_launches(load())
    assert check.status == status
    assert told in check.found
