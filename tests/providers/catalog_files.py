"""Files of a small catalog, for tests that change them."""

from __future__ import annotations

from pathlib import Path

from hodios.config import Config
from hodios.providers.catalog_store import CatalogStore
from hodios.remotes import parse_providers

PROVIDER = """
name = "acme"
title = "Acme"
hosted = true
base_url = "https://api.acme.example/v1"
api_key_env = "ACME_API_KEY"
dialects = ["chat", "completions"]
features = ["tools", "json_schema", "vision"]
"""
MODEL = """
id = "Maker/Big-7B"
name = "Big"
author = "Maker"
aliases = ["big"]
family = "hermes"
context_length = 8192
open_weights = true
tools = true
[hub]
safetensors = "Maker/Big-7B-hf"
gguf = ["Maker/Big-7B-GGUF"]
[[offers]]
provider = "acme"
id = "maker/big"
context_length = 4096
price = { prompt = 0.39, completion = "0.5" }
as_of = 2024-11-15
"""
OWN_SERVERS = '\nname = "openai_compatible"\ntitle = "Any"\nhosted = false\nunlisted = true\n'


def write(folder: Path, *, provider: str = PROVIDER, model: str = MODEL, more: dict[str, str] | None = None) -> Path:
    """`more`: further files, by their paths in the folder."""
    files = {
        "providers/acme.toml": provider,
        "providers/openai_compatible.toml": OWN_SERVERS,
        "models/big.toml": model,
        **(more or {}),
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def store(folder: Path, settings: object = None, keys: tuple[str, ...] = ("ACME_API_KEY",)) -> CatalogStore:
    """`settings`: the table below `[providers]`."""
    config = Config(home=folder, providers=parse_providers(settings or {}))
    return CatalogStore(config, lambda variable: "sk-test" if variable in keys else None, folders=(folder,))
