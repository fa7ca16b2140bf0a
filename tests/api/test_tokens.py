from __future__ import annotations

from typing import Any

import pytest

MESSAGES = [{"role": "user", "content": "x"}]


async def test_a_prompt_in_vllms_shape(call: Any) -> None:
    answer = await call("POST", "/tokenize", {"model": "echo", "prompt": "aé", "add_special_tokens": False})
    assert list(answer.json().items()) == [
        ("count", 3),
        ("max_model_len", 4096),
        ("tokens", [97, 195, 169]),
        ("token_strs", None),
    ]
    strings = await call("POST", "/tokenize", {"prompt": "a", "return_token_strs": True})
    assert strings.json()["token_strs"] == ["a"]


async def test_messages(call: Any) -> None:
    with_prompt = (await call("POST", "/tokenize", {"messages": MESSAGES})).json()["tokens"]
    without = (await call("POST", "/tokenize", {"messages": MESSAGES, "add_generation_prompt": False})).json()["tokens"]
    assert with_prompt[: len(without)] == without
    open_end = (await call("POST", "/tokenize", {"messages": MESSAGES, "continue_final_message": True})).json()[
        "tokens"
    ]
    assert without[: len(open_end)] == open_end
    text = (await call("POST", "/detokenize", {"tokens": with_prompt})).json()
    assert text == {"prompt": "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"}


async def test_the_info_has_what_lm_evaluation_harness_asks_for(call: Any) -> None:
    info = (await call("GET", "/tokenizer_info")).json()
    assert {"bos_token", "eos_token", "pad_token", "chat_template", "tokenizer_class"} <= set(info)
    assert (await call("GET", "/tokenizer_info", query="model=hodios%2Fecho")).json() == info
    assert (await call("POST", "/tokenize", {"prompt": info["eos_token"]})).json()["tokens"] == [257]


@pytest.mark.parametrize(
    ("path", "value", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "x", "messages": MESSAGES}, "prompt"),
        ("/tokenize", {"prompt": ["x"]}, "prompt"),
        ("/tokenize", {"prompt": "x", "model": 1}, "model"),
        ("/tokenize", {"prompt": "x", "add_special_tokens": 1}, "add_special_tokens"),
        ("/tokenize", {"prompt": "x", "return_token_strs": "yes"}, "return_token_strs"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": MESSAGES, "chat_template_kwargs": []}, "chat_template_kwargs"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": ["a"]}, "tokens[0]"),
        ("/detokenize", {"tokens": [1, -1]}, "tokens[1]"),
        ("/detokenize", {"tokens": [True]}, "tokens[0]"),
        ("/detokenize", {"tokens": [2**31]}, "tokens[0]"),
        ("/detokenize", {"tokens": [100000]}, "tokens"),
        ("/detokenize", {"tokens": "x"}, "tokens"),
    ],
)
async def test_bad_values_are_refused_by_name(call: Any, path: str, value: Any, param: str) -> None:
    answer = await call("POST", path, value)
    assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
async def test_unknown_parameters_are_reported(call: Any, path: str) -> None:
    answer = await call("POST", path, {"prompt": "x"} if path == "/tokenize" else {"tokens": [97], "foo": None})
    assert "warnings" not in answer.json()
    body = {"foo": 1, "tokens" if path == "/detokenize" else "prompt": [97] if path == "/detokenize" else "x"}
    answer = await call("POST", path, body)
    assert [warning["param"] for warning in answer.json()["warnings"]] == ["foo"]
    assert answer.headers["x-hodios-ignored"] == "foo"


@pytest.mark.parametrize(
    ("method", "path", "value", "query"),
    [
        ("POST", "/tokenize", {"prompt": "x", "model": "nope"}, ""),
        ("POST", "/detokenize", {"tokens": [1], "model": "nope"}, ""),
        ("GET", "/tokenizer_info", None, "model=nope"),
    ],
)
async def test_unknown_models(call: Any, method: str, path: str, value: Any, query: str) -> None:
    assert (await call(method, path, value, query=query)).error["code"] == "model_not_found"


async def test_a_provider_without_a_tokenizer_says_so(scripted: Any) -> None:
    call, provider = scripted()
    answer = await call("POST", "/tokenize", {"prompt": "x"})
    assert (answer.status, answer.error["code"]) == (501, "not_available")
    provider.cards = ()
    assert (await call("POST", "/tokenize", {"prompt": "x"})).status == 404
