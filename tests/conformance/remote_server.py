"""A live server in front of a scripted upstream, and its models."""

from __future__ import annotations

import json
from typing import NamedTuple

from live_server import LiveServer
from scripted_upstream import ScriptedUpstream

NATIVE, WORDY = "acme/native", "acme/wordy"
"""One that knows everything, and one that only chats."""
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108040000"
    "00b51c0c020000000b4944415478da6364f80f00010501012718e366"
    "0000000049454e44ae426082"
)
"""One pixel."""
UPSTREAM_KEY = "sk-upstream-0123456789abcdef"


class RemoteServer(NamedTuple):
    server: LiveServer
    upstream: ScriptedUpstream


def settings_for(url: str) -> dict[str, str]:
    features = ["tools", "json_object", "json_schema", "vision"]
    models = [
        {"id": NATIVE, "upstream_id": "native", "context_length": 8192, "features": features, "aliases": ["other"]},
        {"id": "acme/native-2", "upstream_id": "native", "context_length": 8192, "features": features},
        {"id": WORDY, "upstream_id": "wordy", "context_length": 8192, "features": ["vision"], "family": "hermes"},
    ]
    section = {"base_url": f"{url}/v1", "api_key_env": "UPSTREAM_KEY", "models": models}
    return {"HODIOS_MODELS": "", "HODIOS_REMOTE": json.dumps({"acme": section}), "UPSTREAM_KEY": UPSTREAM_KEY}
