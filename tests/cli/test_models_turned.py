"""`hodios models load` and `unload` as they are typed, against a server that answers by a script."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from scripted_server import Said, ScriptedServer
from scripted_upstream import Asked, Reply, document

Models = Callable[..., Said]


@pytest.fixture
def models(scripted: ScriptedServer, command: Callable[..., Said]) -> Models:
    """`models("load", …)`"""
    return partial(command, "models")


@pytest.mark.parametrize(
    ("action", "state", "told"),
    [
        ("load", "ready", "author/name: ready\n"),
        ("load", "loading", "author/name: still loading; hodios models shows when it is served\n"),
        ("unload", "installed", "author/name: not served any more\n"),
    ],
)
def test_the_server_is_asked(scripted: ScriptedServer, models: Models, action: str, state: str, told: str) -> None:
    scripted.upstream.script = lambda asked: document({"id": "author/name", "state": state, "error": None})
    said = models(action, "author/na?me")
    assert (said.code, said.out) == (0, told), said.err
    (asked,) = scripted.upstream.asked
    assert asked.path == f"/admin/v1/local/models/author/na?me/{action}"


def test_a_refusal_is_told_in_the_server_s_words(scripted: ScriptedServer, models: Models) -> None:
    def refuse(asked: Asked) -> Reply:
        error = {"error": {"message": "author/name cannot be loaded: 9 GB are too many", "code": "conflict"}}
        return document(error, status=409)

    scripted.upstream.script = refuse
    said = models("load", "author/name")
    assert said.code == 2
    assert "9 GB are too many" in said.err
    assert not said.out


def test_a_model_has_to_be_named(models: Models) -> None:
    assert models("load").code == 2
