"""`/tokenize`, `/detokenize`, `/tokenizer_info`, in vLLM's shapes, so that clients need no tokenizer of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hodios.api.answers import warning_fields
from hodios.api.checks import BOOLEAN, Kind, string
from hodios.api.exchange import Exchange
from hodios.api.parameters import TEMPLATE_KWARGS
from hodios.api.prompts import MESSAGES, TOKEN_IDS, parse_ids
from hodios.api.routes import RouteName
from hodios.api.wire import decode_object, forbid, unknown, warn
from hodios.errors import InvalidRequest, MissingParameter, ModelNotFound, NotAvailable
from hodios.gateway import Gateway, Seat
from hodios.providers.base import TokenizerDoor
from hodios.types import Warning

_MODEL = string(256, min_length=1)
_ANY_TOKEN_IDS = Kind(
    "a list of token ids",
    {"type": "array", "items": TOKEN_IDS.schema["items"]},
    # No text is no tokens, and back.
    lambda name, value: () if value == [] else parse_ids(name, value),
)
TOKENIZE: Mapping[str, Kind] = {
    "model": _MODEL,
    "prompt": string(2**30),
    "messages": MESSAGES,
    "add_special_tokens": BOOLEAN,
    "return_token_strs": BOOLEAN,
    "add_generation_prompt": BOOLEAN,
    "continue_final_message": BOOLEAN,
    "chat_template_kwargs": TEMPLATE_KWARGS,
    "strict": BOOLEAN,
}
DETOKENIZE: Mapping[str, Kind] = {"model": _MODEL, "tokens": _ANY_TOKEN_IDS, "strict": BOOLEAN}


class Tokenization:
    """The handlers of the tokenizer routes. Where no model is named, the first one is meant that the
    key may ask for."""

    def __init__(self, gateway: Gateway, max_body_bytes: int) -> None:
        self._gateway = gateway
        self._max_body_bytes = max_body_bytes

    def handlers(self) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
        return {"tokenize": self.tokenize, "detokenize": self.detokenize, "tokenizer_info": self.info}

    async def tokenize(self, exchange: Exchange) -> None:
        values, warnings = await self._read(exchange, TOKENIZE)
        seat, door = self._door(exchange, values.get("model"))
        tokens = await _encode(door, values)
        strings = await door.token_strings(tokens) if values.get("return_token_strs") else None
        await exchange.answer_json(
            {
                "count": len(tokens),
                "max_model_len": seat.card.context_length,
                "tokens": tokens,
                "token_strs": strings,
                **warnings,
            }
        )

    async def detokenize(self, exchange: Exchange) -> None:
        values, warnings = await self._read(exchange, DETOKENIZE)
        if "tokens" not in values:
            raise MissingParameter(f"tokens: is missing; accepted: {_ANY_TOKEN_IDS.accepts}", param="tokens")
        _, door = self._door(exchange, values.get("model"))
        await exchange.answer_json({"prompt": await door.decode(values["tokens"]), **warnings})

    async def info(self, exchange: Exchange) -> None:
        _, door = self._door(exchange, exchange.query("model"))
        await exchange.answer_json(door.info())

    async def _read(self, exchange: Exchange, kinds: Mapping[str, Kind]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parsed values (null is absent), and the answer's `warnings`, if any."""
        values: dict[str, Any] = {}
        warnings: list[Warning] = []
        for name, value in decode_object(await exchange.body(self._max_body_bytes)).items():
            if value is None:
                continue
            if name in kinds:
                values[name] = kinds[name].parse(name, value)
            else:
                warn(warnings, unknown(name))
        if not warnings:
            return values, {}
        if values.get("strict"):
            forbid(warnings)
        exchange.report_ignored([warning.param for warning in warnings])
        return values, {"warnings": warning_fields(warnings)}

    def _door(self, exchange: Exchange, model: str | None) -> tuple[Seat, TokenizerDoor]:
        if model is not None:
            seat = self._gateway.resolve(model, exchange.key)
        else:
            seats = self._gateway.seats(exchange.key)
            if not seats:
                raise ModelNotFound("model: there is no model here for this key", param="model")
            seat = seats[0]
        door = seat.provider.tokenizer(seat.card.id)
        if door is None:
            raise NotAvailable(f"the tokenizer of {seat.card.id} is not to be had now", param="model")
        return seat, door


async def _encode(door: TokenizerDoor, values: Mapping[str, Any]) -> list[int]:
    if ("prompt" in values) == ("messages" in values):
        raise InvalidRequest("prompt: is needed, or messages, but not both", param="prompt")
    if "prompt" in values:
        return await door.encode(values["prompt"], add_special_tokens=values.get("add_special_tokens", True))
    continues = values.get("continue_final_message", False)
    return await door.encode_messages(
        values["messages"],
        add_generation_prompt=values.get("add_generation_prompt", not continues),
        continue_final_message=continues,
        template_kwargs=values.get("chat_template_kwargs"),
    )
