"""Requests that mean harm, or that nobody meant: what to send, and which parameter an error must name."""

from __future__ import annotations

import random
from typing import Any

Body = dict[str, Any]

BAD_VALUES: list[tuple[str, Any]] = [
    *(("model", value) for value in (None, "", 5, ["x"], "x" * 1000)),
    *(("temperature", value) for value in (-0.1, 2.1, "1", True, [], 1e308)),
    *(("top_p", value) for value in (0, 1.01, -1, "x")),
    *(("min_p", value) for value in (-0.01, 1.5)),
    *(("top_k", value) for value in (-2, 1.5, 2**63, "5")),
    *(("presence_penalty", value) for value in (2.01, -2.01)),
    *(("frequency_penalty", value) for value in (3, {})),
    *(("repetition_penalty", value) for value in (0, 0.009, 5.1, -1)),
    *(("seed", value) for value in (2**64, -(2**63) - 1, 1.5, "x")),
    *(("n", value) for value in (0, 129, 1.5, "2", -1)),
    *(("max_tokens", value) for value in (0, -1, 1_000_001, 10**30, "5", 1.5)),
    *(("stop", value) for value in (5, [5], ["x"] * 17, {"a": 1})),
    *(("stop_token_ids", value) for value in ("x", [-1], [2**40], [1.5], [10**6])),
    *(("min_tokens", value) for value in (-1, 1.5)),
    *(("ignore_eos", value) for value in ("yes", 1)),
    *(("logit_bias", value) for value in ([], {"x": 1}, {"1": 101}, {"1": "x"}, {"999999": 1}, {"-1": 1})),
    *(("stream", value) for value in ("true", 1)),
    *(("stream_options", value) for value in ("x", {"include_usage": "x"}, {"include_usage": True})),
    *(("response_format", value) for value in ("json", {}, {"type": "xml"}, {"type": "json_schema"}, 5)),
    *(("strict", value) for value in ("x", 0)),
    *(("user", value) for value in (5, "x" * 100_000)),
    *(("cache_salt", value) for value in (5, "x" * 100_000)),
]
"""For both routes."""
BAD_CHAT: list[tuple[str, Any]] = [
    *(("messages", value) for value in (None, [], "x", [5], [{"role": "king", "content": "x"}], [{"role": "user"}])),
    *(("messages", [{"role": "user", "content": value}]) for value in (5, {"a": 1}, [5], [{"type": "video"}])),
    *(("logprobs", value) for value in (5, "x")),
    *(("top_logprobs", value) for value in (21, -1, 5)),
    *(("chat_template_kwargs", value) for value in (5, [])),
    *(("continue_final_message", value) for value in (1, "x")),
]
BAD_COMPLETION: list[tuple[str, Any]] = [
    *(("prompt", value) for value in (None, [], 5, {"a": 1}, [[]], ["x", 5], [1, "x"], [-1], [49152], [2**70], [1.5])),
    *(("prompt", value) for value in (["x"] * 2049, "x " * 9000, [0] * 8192)),
    *(("logprobs", value) for value in (6, -1, True, "x")),
    *(("echo", value) for value in (1, "x")),
    *(("best_of", value) for value in (0, 129)),
]


def nested(depth: int) -> Body:
    schema: Body = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


REGEXES = [
    *(
        "(a+)+$",
        "(a|a)*b",
        "a{1,100000}",
        "(((a{0,500}){0,500}){0,500})",
        "(?=a)b",
        r"(a)\1",
        "[",
        "*",
        "",
        "a" * 40_000,
    ),
    *("(.*a){20}", "(.{0,100}x){0,30}", r"\p{L}{1,5000}", "(x{0,200}y{0,200}){0,200}", "(?:a|b)*a(?:a|b){15}", "\0"),
    *("(a?){1000}a{1000}", "(?i)hello", "^$", "[a-z]{50000}", "\ud83d"),
]
SCHEMAS: list[Any] = [
    *(
        nested(40),
        nested(90),
        nested(400),
        {"$ref": "#"},
        {"$ref": "http://x/y"},
        {"enum": []},
        {"type": "nope"},
        [],
        5,
    ),
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    {"enum": list(range(5000))},
    {"type": "string", "minLength": 10**6, "maxLength": 10**9},
    {"type": "array", "minItems": 10**6, "items": {"type": "integer"}},
    *({"type": "integer", "multipleOf": number} for number in (0, -1, 1e-300, 99_991)),
    {"allOf": [{"type": "string", "pattern": f"a{{{n},}}"} for n in range(1, 30)]},
    {"type": "object", "patternProperties": {"(a+)+$": {"type": "string"}}},
    {"type": "object", "properties": {f"k{n}": {"type": "string"} for n in range(2000)}},
    *({"oneOf": [{"type": "string"}] * 2}, {"not": {}}, {"if": {}}, {"type": "integer", "minimum": 5, "maximum": 4}),
    *({}, {"type": "string", "format": "nope"}, {"type": "string", "pattern": "(?=x)"}, {"const": {"a": [1] * 2000}}),
]
GRAMMARS = [
    *(
        "start: start",
        "start: start start | ",
        "start: a",
        "start: /(a+)+b/",
        'start: (""*)*',
        "start: /a{100000}/",
        "",
    ),
    *("%import x.y", "start: @x", 'x: "a"', "start: a*\na: b*\nb: a*", "start: <[99999999]>", "start: <|im_end|>"),
    *("start: /[/", "start: %llguidance {}", 'start: s\ns: s s | s s s | "a" | ', "start: %json {}"),
]
EXTREMES: list[Body] = [
    *({"logit_bias": {str(token): bias for token in range(10_000)}} for bias in (100, -100)),
    *({"temperature": 1e-300}, {"temperature": 5e-324, "top_p": 5e-324}, {"min_p": 1, "temperature": 2}),
    *({"repetition_penalty": 0.01}, {"repetition_penalty": 5, "presence_penalty": -2, "frequency_penalty": -2}),
    *({"seed": 2**64 - 1}, {"seed": -(2**63)}, {"top_k": 2**31 - 1}, {"stop_token_ids": list(range(1024))}),
    *({"stop": ["\0"] * 16}, {"ignore_eos": True, "min_tokens": 3}, {"n": 60, "max_tokens": 1}, {"best_of": 20}),
    *({"prompt": "<|im_start|>" * 100}, {"prompt": "\0\ufffe\uffff" * 20}, {"prompt": "🦜" * 100}, {"prompt": ""}),
    *({"prompt": "{{7*7}}{% for x in y %}"}, {"prompt": ["x"] * 40, "max_tokens": 1}, {"prompt": [49151]}),
    {"prompt": "<|im_end|>" * 300, "echo": True, "logprobs": 5, "max_tokens": 0},
]


def grammar_bodies() -> list[Body]:
    """Each compiles, or is refused, or fails while it is followed."""
    formats: list[Body] = [{"type": "regex", "regex": regex} for regex in REGEXES]
    formats += [{"type": "json_schema", "json_schema": {"name": "x", "schema": schema}} for schema in SCHEMAS]
    formats += [{"type": "grammar", "grammar": grammar} for grammar in GRAMMARS]
    return [{"response_format": format, "max_tokens": 6} for format in formats]


def random_body(rng: random.Random) -> Body:
    """Sound for the most part, in any combination."""
    choices: Body = {
        "temperature": [0, 0.5, 1, 2, 1e-9],
        "top_p": [1, 0.5, 1e-9],
        "top_k": [0, -1, 1, 50, 10**6],
        "min_p": [0, 0.1, 1],
        "presence_penalty": [-2, 0, 2],
        "frequency_penalty": [-2, 0.5, 2],
        "repetition_penalty": [0.01, 1, 1.3, 5],
        "seed": [0, -1, 2**63],
        "n": [1, 2, 3],
        "stop": ["e", ["the", "\n"], [], "\ud7ff"],
        "stop_token_ids": [[], [2], [0, 1, 49151]],
        "min_tokens": [0, 3],
        "ignore_eos": [True, False],
        "logit_bias": [{}, {"5": 100}, {"2": -100, "0": 50}],
        "echo": [True, False],
        "logprobs": [0, 3, 5],
        "stream": [True, False],
        "max_tokens": [1, 4, 12],
        "prompt": ["Hi", ["a", "b"], "é🦜", [1, 2, 3], "<|im_start|>user\n", "a " * 200],
        "response_format": [{"type": "text"}, {"type": "json"}, {"type": "regex", "regex": "[0-9 ]{1,9}"}],
        "return_tokens_as_token_ids": [True, False],
        "unheard_of": [None, 1, {"a": []}],
        "strict": [False, True],
    }
    names = rng.sample(sorted(choices), rng.randrange(1, 9))
    body = {"prompt": "Hi", "max_tokens": 8, **{name: rng.choice(choices[name]) for name in names}}
    if rng.random() < 0.2:
        body[rng.choice(names)] = rng.choice([None, -1, "x", [], {}, 1e308, 2**65, True, [[[]]], "\0"])
    return body
