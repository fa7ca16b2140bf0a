"""`GET models`: every model with the fields of OpenAI, Novita, APIpie, DeepInfra and OpenRouter together."""

from __future__ import annotations

from typing import Any

from hodios.api.exchange import Exchange
from hodios.api.parameters import CHAT, COMPLETIONS, parameters
from hodios.errors import InvalidRequest
from hodios.gateway import Gateway, Seat

FILTERS = ("type", "subtype", "provider", "model", "enabled", "supported_parameters", "q")
_FREE = "0"


class Catalog:
    """The handlers of the model routes."""

    def __init__(self, gateway: Gateway, max_choices: int) -> None:
        self._gateway = gateway
        tables = (parameters(CHAT, max_choices), parameters(COMPLETIONS, max_choices))
        known = {name for table in tables for name, parameter in table.items() if not parameter.gap}
        self._supported = sorted(known - {"model", "messages", "prompt", "strict"})

    async def all(self, exchange: Exchange) -> None:
        wanted = {name: value for name in FILTERS if (value := exchange.query(name))}
        ready = self._ready()
        entries = [self._entry(seat, ready) for seat in self._gateway.seats()]
        data = [entry for entry in entries if self._matches(entry, wanted)]
        await exchange.answer_json({"object": "list", "data": data})

    async def one(self, exchange: Exchange) -> None:
        seat = self._gateway.resolve(exchange.scope["path_params"]["id"])
        await exchange.answer_json(self._entry(seat, self._ready()))

    def _ready(self) -> frozenset[tuple[str, str]]:
        return frozenset((name, health.model) for name, health in self._gateway.health() if health.state == "ready")

    def _matches(self, entry: dict[str, Any], wanted: dict[str, str]) -> bool:
        for name, value in wanted.items():
            text = value.casefold()
            match name:
                case "enabled":
                    if text not in ("0", "1"):
                        raise InvalidRequest(f"enabled: {value[:60]!r} is not known; accepted: 0 or 1", param="enabled")
                    is_match = entry["enabled"] == int(text)
                case "supported_parameters":
                    is_match = all(part.strip() in self._supported for part in text.split(","))
                case "model":
                    is_match = text in (entry["id"].casefold(), *(alias.casefold() for alias in entry["aliases"]))
                case "q":
                    is_match = text in f"{entry['id']} {entry['name']} {entry['description']}".casefold()
                case _:
                    is_match = entry[name].casefold() == text
            if not is_match:
                return False
        return True

    def _entry(self, seat: Seat, ready: frozenset[tuple[str, str]]) -> dict[str, Any]:
        card = seat.card
        is_ready = (seat.provider.name, card.id) in ready
        modality = {"input_modalities": ["text"], "output_modalities": ["text"]}
        return {
            "id": card.id,
            "object": "model",
            "created": card.created,
            "owned_by": card.author or card.provider,
            "root": card.id,
            "parent": None,
            "aliases": list(card.aliases),
            "canonical_slug": card.id,
            "name": card.name or card.id,
            "title": card.name or card.id,
            "display_name": card.name or card.id,
            "description": _description(seat),
            "model": card.id,
            "provider": card.provider,
            "route": f"{card.provider}/{card.id}",
            "type": "llm",
            "subtype": "chat",
            "enabled": 1,
            "available": 1 if is_ready else 0,
            "status": "ready" if is_ready else "not_ready",
            "context_length": card.context_length,
            "context_size": card.context_length,
            "max_model_len": card.context_length,
            "max_tokens": card.context_length,
            "max_response_tokens": card.max_output_tokens,
            "max_output_tokens": card.max_output_tokens,
            **modality,
            "architecture": {"modality": "text->text", **modality, "tokenizer": "Other", "name": card.architecture},
            "quantization": card.quantization or None,
            "num_parameters": card.num_parameters or None,
            "size_bytes": card.size_bytes or None,
            "license": card.license or None,
            "system_fingerprint": card.fingerprint or None,
            "supported_parameters": self._supported,
            **_prices(card.context_length, card.max_output_tokens),
        }


def _prices(context_length: int, max_output_tokens: int) -> dict[str, Any]:
    """What runs here costs nothing, in every unit in which others give prices."""
    return {
        "input_token_price_per_m": 0,
        "output_token_price_per_m": 0,
        "req_price": _FREE,
        "res_price": _FREE,
        "price_type": "token",
        "price_unit": "USD",
        "pricing": {"prompt": _FREE, "completion": _FREE, "request": _FREE, "image": _FREE},
        "top_provider": {
            "context_length": context_length,
            "max_completion_tokens": max_output_tokens,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "metadata": {
            "context_length": context_length,
            "max_tokens": max_output_tokens,
            "pricing": {"input_tokens": 0, "output_tokens": 0},
            "tags": [],
        },
    }


def _description(seat: Seat) -> str:
    card = seat.card
    facts = [card.architecture, card.quantization, card.license]
    return (
        f"{card.name or card.id} ({', '.join(fact for fact in facts if fact)})" if any(facts) else card.name or card.id
    )
