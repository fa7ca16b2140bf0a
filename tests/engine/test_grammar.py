from __future__ import annotations

import contextlib
import json
import random
import re

import gguf
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from hodios.engine import grammar as grammar_module
from hodios.engine.grammar import GrammarCompiler, GrammarFailure
from hodios.engine.sampler import Draw, Sampler
from hodios.errors import InvalidRequest
from hodios.types import Grammar, GrammarPart, Sampling

SIZE = 300
"""More than the tokenizer has: the rest is padding of the model's head."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    vocab = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("{", '"'), ('"', ":"), ("t", "r"), ("u", "e"), ("tr", "ue"), ("a", "b"), ("ab", "c"), ("Ġ", "Ġ")]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<eos>", special=True), AddedToken("<end>", special=True)])
    return tokenizer


@pytest.fixture(scope="module")
def ends(tokenizer) -> list[int]:
    return [tokenizer.token_to_id("<end>"), tokenizer.token_to_id("<eos>")]


@pytest.fixture(scope="module")
def compiler(tokenizer, ends) -> GrammarCompiler:
    return GrammarCompiler(tokenizer.to_str(), vocab_size=SIZE, eos_ids=ends)


def allowed_tokens(matcher) -> list[int]:
    bitmask = np.full((3, (SIZE + 31) // 32), -1, np.int32)
    matcher.fill_mask(bitmask, 1)
    assert (bitmask[[0, 2]] == -1).all()
    return np.flatnonzero(np.unpackbits(bitmask[1].view(np.uint8), bitorder="little")).tolist()


def matches(compiler, tokenizer, grammar, text, end) -> bool:
    """Whether the mask lets the text through, token by token, and an end token after it."""
    matcher = compiler.compile(grammar)
    for token in [*tokenizer.encode(text).ids, end]:
        if token not in allowed_tokens(matcher):
            return False
        matcher.accept(token)
    return True


def answer(compiler, tokenizer, ends, grammar, seed, most=400, **fields) -> tuple[str, bool]:
    """What a model of random, nearly uniform logits says, and whether it came to an end."""
    rng = np.random.default_rng(seed)
    matcher = compiler.compile(grammar)
    draw = Draw(
        Sampling(seed=seed, **fields), prompt=[0], eos_ids=ends, vocab_size=SIZE, index=0, rng=rng, matcher=matcher
    )
    said: list[int] = []
    while len(said) < most:
        logits = rng.normal(size=(1, SIZE)).astype(np.float32)
        logits[0, [tokenizer.token_to_id(t) for t in '"}]']] += 3
        logits[0, ends] += 3
        (drawn,) = Sampler(SIZE).sample(logits, [draw])
        draw.accept(drawn.token)
        if drawn.token in ends:
            return tokenizer.decode(said), True
        said.append(drawn.token)
    return tokenizer.decode(said), False


def test_once_prepared_no_grammar_waits_for_the_tokenizer(compiler, tokenizer, ends, monkeypatch):
    grammar = Grammar("regex", "[ab]c")
    wanted = allowed_tokens(compiler.compile(grammar))
    built = []
    real = grammar_module.build_tokenizer
    monkeypatch.setattr(grammar_module, "build_tokenizer", lambda *given: built.append(given) or real(*given))
    prepared = GrammarCompiler(tokenizer.to_str(), vocab_size=SIZE, eos_ids=ends)
    prepared.prepare()
    assert len(built) == 1
    assert allowed_tokens(prepared.compile(grammar)) == wanted
    assert len(built) == 1


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(15))
def test_what_a_random_model_says_under_a_schema_fits_it(compiler, tokenizer, ends, seed):
    fields = [{}, {"top_k": 3}, {"top_p": 0.5}, {"temperature": 0.0}, {"logit_bias": ((ends[0], -100.0),)}][seed % 5]
    text, is_whole = answer(
        compiler, tokenizer, ends, Grammar("json_schema", json.dumps(PERSON)), seed, min_tokens=seed, **fields
    )
    assert is_whole
    person = json.loads(text)
    assert set(person) <= {"name", "age", "tags"}
    assert {"name", "age"} <= set(person)
    assert len(person["name"]) <= 8
    assert isinstance(person["age"], int)
    assert 0 <= person["age"] <= 150
    assert set(person.get("tags", [])) <= {"a", "b"}


@pytest.mark.parametrize("seed", range(6))
def test_json_mode_gives_objects(compiler, tokenizer, ends, seed):
    text, is_whole = answer(compiler, tokenizer, ends, Grammar("json_object"), seed, most=1500)
    assert not is_whole or isinstance(json.loads(text), dict)
    assert text.startswith("{")


def test_a_schema_that_allows_anything(compiler, tokenizer, ends):
    for text in ('{"a": [1]}', '"b"', "12", "null"):
        assert matches(compiler, tokenizer, Grammar("json_schema", "true"), text, ends[0])


@pytest.mark.parametrize("pattern", [r"(ab|c)+[0-9]{2,3}", r"[^\n]{3}", r"a/b\.", "é+", r"\d{4}-\d\d"])
def test_a_regular_expression_is_matched_whole(compiler, tokenizer, ends, pattern):
    for seed in range(8):
        text, is_whole = answer(compiler, tokenizer, ends, Grammar("regex", pattern), seed)
        assert not is_whole or re.fullmatch(pattern, text)


def test_a_lark_grammar_is_followed(compiler, tokenizer, ends):
    grammar = Grammar("lark", 'start: pair ("," pair)*\npair: /[a-c]/ "=" NUMBER\nNUMBER: /[0-9]/')
    assert matches(compiler, tokenizer, grammar, "a=1,b=2", ends[0])
    assert not matches(compiler, tokenizer, grammar, "a=1,", ends[0])


@pytest.mark.parametrize(
    ("text", "is_allowed"),
    [
        ('{"a":1}', True),
        ('{"a": 1, "b": [true, null]}', True),
        ('{\n  "a": 1,\n  "b": {\n    "c": []\n  }\n}', True),
        ("{}", True),
        ('{"a":  1}', False),
        ('{\n\n"a": 1}', False),
        ('{"a": 1} ', False),
        (' {"a": 1}', False),
        ('{"a": 1', False),
        ("[1]", False),
        ('{"a": 01}', False),
    ],
)
def test_whitespace_is_bounded(compiler, tokenizer, ends, text, is_allowed):
    assert matches(compiler, tokenizer, Grammar("json_object"), text, ends[1]) is is_allowed


def test_every_end_token_may_end_and_padding_is_never_allowed(compiler, tokenizer, ends):
    matcher = compiler.compile(Grammar("regex", "a[0-9]?"))
    assert not set(allowed_tokens(matcher)) & set(ends)
    matcher.accept(tokenizer.token_to_id("a"))
    assert not matcher.is_finished
    assert set(ends) < set(allowed_tokens(matcher))
    assert max(allowed_tokens(matcher)) < tokenizer.get_vocab_size()
    matcher.accept(tokenizer.token_to_id("7"))
    assert matcher.is_finished
    assert allowed_tokens(matcher) == sorted(ends)
    assert matcher.forced_tokens() == []
    matcher.accept(ends[1])
    assert matcher.is_finished


def test_an_end_token_ends_a_grammar_that_could_go_on(compiler, tokenizer, ends):
    matcher = compiler.compile(Grammar("regex", "a+"))
    matcher.accept(tokenizer.token_to_id("a"))
    matcher.accept(ends[0])
    assert matcher.is_finished


def test_forced_tokens_are_those_that_alone_are_allowed(compiler, tokenizer):
    matcher = compiler.compile(Grammar("regex", "true(abc|abd)"))
    forced = matcher.forced_tokens()
    assert tokenizer.decode(forced).startswith("true")
    for token in forced:
        assert token in allowed_tokens(matcher)
        matcher.accept(token)


@pytest.mark.parametrize("token", [1, 290, SIZE, 10**6])
def test_a_token_that_is_not_allowed_is_a_failure_and_stays_one(compiler, token):
    matcher = compiler.compile(Grammar("regex", "zz"))
    with pytest.raises(GrammarFailure):
        matcher.accept(token)
    with pytest.raises(GrammarFailure):
        allowed_tokens(matcher)
    with pytest.raises(GrammarFailure):
        matcher.forced_tokens()
    assert not matcher.is_finished


def test_matchers_of_one_grammar_do_not_know_each_other(compiler, tokenizer):
    grammar = Grammar("regex", "a{1,500}b")
    first, second = compiler.compile(grammar), compiler.compile(grammar)
    for _ in range(3):
        first.accept(tokenizer.token_to_id("a"))
    start = allowed_tokens(second)
    with pytest.raises(GrammarFailure):
        first.accept(tokenizer.token_to_id("z"))
    assert allowed_tokens(second) == start == allowed_tokens(compiler.compile(grammar))


@pytest.mark.parametrize(
    ("grammar", "says"),
    [
        (Grammar("regex", "(("), "unclosed group"),
        (Grammar("regex", "(?=a)b"), "look-ahead"),
        (Grammar("lark", "start: foo"), 'unknown name: "foo"'),
        (Grammar("lark", ""), "no start rule"),
        (Grammar("lark", "start: start"), "cannot be honoured"),
        (Grammar("json_schema", '{"type": "objekt"}'), "objekt"),
        (Grammar("json_schema", '{"properties": {"a": {"not": {}}}}'), "not"),
        (Grammar("json_schema", '{"type":'), "not JSON"),
        (Grammar("json_schema", '{"const": NaN}'), "NaN"),
        (Grammar("json_schema", "false"), "object or true"),
        (Grammar("json_schema", "[]"), "object or true"),
        (Grammar("json_schema", '{"$ref": "http://example.org/x"}'), "example.org"),
        (Grammar("json_schema", '{"$ref": "#"}'), "nothing matches"),
        (Grammar("json_schema", '{"type": "integer", "minimum": 5, "maximum": 3}'), "minimum"),
        (Grammar("json_schema", 'true }, {"lark_grammar": "start: /a/"'), "not JSON"),
        (Grammar("json_schema", '{"const": "\\ud800"}'), "cannot be honoured"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_the_reason(compiler, grammar, says):
    with pytest.raises(InvalidRequest, match=re.escape(says)) as raised:
        compiler.compile(grammar)
    assert raised.value.param == "response_format"
    assert len(raised.value.message) < 700


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"a": {"items": {"pattern": "(("}}}}, "#/properties/a/items/pattern: regex parse error"),
        ({"items": {"type": "integer", "minimum": 0.2, "maximum": 0.4}, "type": "array", "minItems": 1}, "#/items"),
        (
            {"$defs": {"b/c": {"minLength": 3, "maxLength": 2, "type": "string"}}, "$ref": "#/$defs/b~1c"},
            "#/$defs/b~1c/minLength",
        ),
        ({"anyOf": [{"allOf": [{"type": "null"}, {"type": "string"}]}]}, "#/anyOf/0/allOf"),
        ({"prefixItems": [{"const": "x", "type": "integer"}], "type": "array", "minItems": 1}, "#/prefixItems/0/const"),
        ({"items": {"patternProperties": {"^a": {}, "b$": {}}}}, "#/items/patternProperties"),
        ({"properties": {"a": {"items": {"multipleOf": 1000003}}}}, "#/properties/a/items/multipleOf"),
        ({"properties": {"a": {"not": {}}, "b": {"if": {}, "then": {}}}}, "#/properties/b/if"),
    ],
)
def test_the_keyword_to_blame_is_named_with_its_place(compiler, schema, place):
    with pytest.raises(InvalidRequest, match=re.escape(place)):
        compiler.compile(Grammar("json_schema", json.dumps(schema)))


def test_the_part_to_blame_is_named(compiler):
    good = GrammarPart("good", Grammar("json_schema", '{"type": "null"}'), "tools[0]")
    for bad in (
        Grammar("json_schema", '{"not": {}}'),
        Grammar("json_schema", '{"pattern": "(("}'),
        Grammar("regex", "(("),
    ):
        grammar = Grammar("lark", "start: @good | @bad", (good, GrammarPart("bad", bad, "tools[1]")))
        with pytest.raises(InvalidRequest, match=r"^tools\[1\]: ") as raised:
            compiler.compile(grammar)
        assert raised.value.param == "tools[1]"


def test_the_parts_of_a_grammar_are_followed(compiler, tokenizer, ends):
    parts = (
        GrammarPart("number", Grammar("json_schema", '{"type": "integer"}'), ""),
        GrammarPart("word", Grammar("regex", "[a-c]+"), ""),
        GrammarPart("other", Grammar("lark", 'start: "x"'), ""),
        GrammarPart("object", Grammar("json_object"), ""),
    )
    grammar = Grammar("lark", 'start: @number "/" @word "/" @other "/" @object', parts)
    assert matches(compiler, tokenizer, grammar, '12/abba/x/{"a": 1}', ends[0])
    assert not matches(compiler, tokenizer, grammar, "12/abba/x/[]", ends[0])


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"properties": {"a": {"type": "string"}}}, '{"\\u0061": 1}'),
        ({"x-guidance": {"lenient": True}, "type": "null"}, '"a"'),
        ({"prefixItems": [{"type": "null"}], "additionalItems": False}, "[1]"),
        ({"$id": "urn:a", "$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}, "1"),
        ({"minProperties": 1, "maxProperties": 1}, '{"a": 1, "b": 2}'),
    ],
)
def test_what_a_lenient_reader_would_let_pass_is_not_allowed(compiler, tokenizer, ends, schema, text):
    assert not matches(compiler, tokenizer, Grammar("json_schema", json.dumps(schema)), text, ends[0])


UNION = {
    "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
    "discriminator": {"propertyName": "kind"},
    "$defs": {
        "Cat": {"properties": {"kind": {"const": "cat"}}, "required": ["kind"], "type": "object"},
        "Dog": {"properties": {"kind": {"const": "dog"}, "of": {"$ref": "#"}}, "required": ["kind"], "type": "object"},
    },
}


def test_tagged_unions_and_references_to_the_root_are_followed(compiler, tokenizer, ends):
    grammar = Grammar("json_schema", json.dumps(UNION))
    assert matches(compiler, tokenizer, grammar, '{"kind": "dog", "of": {"kind": "cat"}}', ends[0])
    assert not matches(compiler, tokenizer, grammar, '{"kind": "dog", "of": {"kind": "cow"}}', ends[0])


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("regex", "(" * 16_000 + "a" + ")" * 16_000),
        Grammar("regex", "|".join(f"{i:x}z{i}" for i in range(50_000))),
        Grammar("lark", "start: " + "(" * 10_000 + '"a"' + ")" * 10_000),
        Grammar("lark", "start: " + " ".join(f'"a{i}"?' for i in range(30_000))),
        Grammar("lark", "start: A\nA: " + " & ".join(f"/(a|b)*a(a|b){{{i}}}(a|b)*/" for i in range(1, 18))),
        Grammar("lark", 'start: %json {"type": "integer", "multiple\\u004ff": 1000003}'),
        Grammar("json_schema", '{"type":"array","items":' * 4000 + "true" + "}" * 4000),
        Grammar("json_schema", '{"a":' * 20_000 + "true" + "}" * 20_000),
        Grammar("json_schema", json.dumps({"enum": [f"value{i}" for i in range(50_000)]})),
        Grammar("json_schema", '{"type": "integer", "multipleOf": 1000003}'),
        Grammar("json_schema", '{"allOf": [{"type": "integer", "multipleOf": 997}, {"multipleOf": 991}]}'),
        Grammar("json_schema", '{"allOf": [' + ",".join(f'{{"pattern": "a{i}|b{i}"}}' for i in range(40)) + "]}"),
        Grammar("lark", "start: A\nA: " + " & ".join(f"/(.|\\n)*(a{i}|b{i})(.|\\n)*/" for i in range(40))),
        Grammar("json_schema", json.dumps({"patternProperties": {f"^a{i}b*|c{i}?d$": {} for i in range(60)}})),
    ],
)
def test_what_would_cost_too_much_is_refused(compiler, grammar):
    with pytest.raises(InvalidRequest):
        compiler.compile(grammar)


def test_many_patterns_that_cost_little_are_honoured(compiler, tokenizer, ends):
    parts = {f"p{i}": {"$ref": "#/$defs/code"} | {"pattern": f"^{'abc'[i % 3]}"} for i in range(20)}
    grammar = Grammar("json_schema", json.dumps({"properties": parts, "$defs": {"code": {"pattern": "^[a-z]{3}$"}}}))
    assert matches(compiler, tokenizer, grammar, '{"p0":"axy","p1":"bxy"}', ends[0])
    assert not matches(compiler, tokenizer, grammar, '{"p0":"bxy"}', ends[0])


def test_a_multiple_of_a_reasonable_number_is_honoured(compiler, tokenizer, ends):
    schema = Grammar("json_schema", '{"type": "integer", "multipleOf": 25, "minimum": 0}')
    assert matches(compiler, tokenizer, schema, "175", ends[0])
    assert not matches(compiler, tokenizer, schema, "180", ends[0])
    compiler.compile(Grammar("json_schema", '{"type": "number", "multipleOf": 0.01}'))
    compiler.compile(Grammar("json_schema", '{"type": "object", "properties": {"multipleOf": {"type": "number"}}}'))


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("regex", "((a{1000}){1000}){1000}"),
        Grammar("regex", "a{1000000}"),
        Grammar("regex", "((a{100}){100}){100}"),
        Grammar("regex", r"(\p{L}{1,300}){1,300}"),
        Grammar("regex", "(.*a){500}"),
        Grammar("regex", "(x+x+)+y"),
        Grammar("lark", "start: e\ne: e e | /[ab]/ | e e e"),
        Grammar("lark", 'start: ("a"{1,100000}){1,100000}'),
        Grammar("json_schema", '{"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}'),
        Grammar("json_schema", '{"type": "array", "items": {"type": "string"}, "maxItems": 1000000000}'),
    ],
)
def test_an_explosive_grammar_goes_on_or_fails_clearly(compiler, grammar):
    choice = random.Random(1)
    with contextlib.suppress(GrammarFailure, InvalidRequest):
        matcher = compiler.compile(grammar)
        for _ in range(40):
            matcher.accept(choice.choice(allowed_tokens(matcher)))
            if matcher.is_finished:
                break


def test_the_tokenizer_is_built_when_first_needed():
    lazy = GrammarCompiler("no tokenizer", vocab_size=10, eos_ids=[1])
    with pytest.raises(ValueError, match="tokenizer"):
        lazy.compile(Grammar("json_object"))
    with pytest.raises(ValueError, match="end token"):
        GrammarCompiler("{}", vocab_size=10, eos_ids=[])


def test_a_bitmask_of_the_wrong_shape_is_refused(compiler):
    matcher = compiler.compile(Grammar("json_object"))
    with pytest.raises(ValueError, match="contiguous"):
        matcher.fill_mask(np.zeros((2, 20), np.int32)[:, ::2], 0)
    with pytest.raises(ValueError, match="contiguous"):
        matcher.fill_mask(np.zeros((2, 10), np.int64), 0)
    with pytest.raises(ValueError, match="buffer"):
        matcher.fill_mask(np.zeros((2, 5), np.int32), 0)


@pytest.fixture(scope="module")
def starter_compiler(starter_model_path) -> tuple[Tokenizer, GrammarCompiler]:
    fields = gguf.GGUFReader(starter_model_path).fields
    tokens, merges, types = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges", "token_type"))
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(merge.split(" ", 1)) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == gguf.TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    end = vocab["<|im_end|>"]
    return tokenizer, GrammarCompiler(tokenizer.to_str(), vocab_size=len(tokens) + 64, eos_ids=[end])


def test_the_starter_models_own_tokens_follow_a_schema(starter_compiler):
    tokenizer, compiler = starter_compiler
    matcher = compiler.compile(Grammar("json_schema", json.dumps(PERSON)))
    text = '{"name": "Zoë", "age": 42, "tags": ["a"]}'
    bitmask = np.zeros((1, (tokenizer.get_vocab_size() + 64 + 31) // 32), np.int32)
    for token in tokenizer.encode(text).ids:
        matcher.fill_mask(bitmask, 0)
        allowed = np.unpackbits(bitmask.view(np.uint8), bitorder="little")
        assert allowed[token]
        assert not allowed[tokenizer.get_vocab_size() :].any()
        matcher.accept(token)
    assert matcher.is_finished
    forced = compiler.compile(Grammar("regex", "the quick brown (fox|dog)")).forced_tokens()
    assert "the quick brown".startswith(tokenizer.decode(forced))
    assert len(forced) >= 2


def test_what_was_compiled_last_is_kept_within_bounds(tokenizer, ends):
    compiler = GrammarCompiler(tokenizer.to_str(), vocab_size=SIZE, eos_ids=ends)
    large = [Grammar("json_schema", json.dumps({"const": f"{i}" + "x" * 100_000})) for i in range(12)]
    for grammar in large:
        compiler.compile(grammar)
    kept = [grammar for grammar in large if compiler.has(grammar)]
    assert large[-1] in kept
    assert large[0] not in kept
    assert sum(len(grammar.source) for grammar in kept) <= 1_000_000


@pytest.fixture(scope="module")
def tagged(tokenizer) -> tuple[Tokenizer, GrammarCompiler]:
    """A vocabulary with a control token and a tag that is text."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.add_special_tokens([AddedToken("<stop>", special=True)])
    copy.add_tokens([AddedToken("<tag>", special=False, normalized=False)])
    return copy, GrammarCompiler(copy.to_str(), vocab_size=SIZE, eos_ids=[copy.token_to_id("<end>")])


@pytest.mark.parametrize("text", ["a <stop> b", "<stop>", "<<stop>", "<stop><stop>", "<tag><stop>"])
def test_forced_text_that_spells_a_control_token_is_text(tagged, text):
    tokenizer, compiler = tagged
    for grammar in (Grammar("json_schema", json.dumps({"const": text})), Grammar("lark", f"start: {json.dumps(text)}")):
        matcher = compiler.compile(grammar)
        said = []
        while not matcher.is_finished:
            forced = matcher.forced_tokens()
            tokens = allowed_tokens(matcher)
            assert tokenizer.token_to_id("<stop>") not in [*tokens, *forced]
            said.append(forced[0] if forced else tokens[0])
            matcher.accept(said[-1])
        assert tokenizer.decode(said, skip_special_tokens=False) in (text, json.dumps(text))


def test_a_tag_that_is_text_may_be_one_token(tagged):
    tokenizer, compiler = tagged
    matcher = compiler.compile(Grammar("regex", "<tag>|<stop>"))
    assert tokenizer.token_to_id("<tag>") in allowed_tokens(matcher)
    assert tokenizer.token_to_id("<stop>") not in allowed_tokens(matcher)
    marker = compiler.compile(Grammar("lark", "start: <stop>"))
    assert allowed_tokens(marker) == [tokenizer.token_to_id("<stop>")]
