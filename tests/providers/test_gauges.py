from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_upstream import HANG, KEY, Reply, ScriptedUpstream, serving

from hodios.providers.base import ServerLoad
from hodios.providers.catalog import read_rows, shipped_folder
from hodios.providers.gauges import MOST_BYTES, loads_of, read_gauges
from hodios.providers.remote import RemoteProvider
from hodios.remotes import LoadGauges, Remote, RemoteModel

ROWS = read_rows([shipped_folder()]).providers
VLLM = LoadGauges(
    running=("vllm:num_requests_running",),
    waiting=("vllm:num_requests_waiting",),
    cache_usage=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    model_label="model_name",
)
TEXT = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_running{engine="0",model_name="other"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:e2e_request_latency_seconds_bucket{le="+Inf",model_name="m"} 9.0
"""


def gauges_of(kind: str) -> LoadGauges:
    found = ROWS[kind].load
    assert found is not None
    return found


def test_engines_are_summed_and_the_fullest_cache_counts() -> None:
    found = read_gauges(TEXT, VLLM)
    assert found == {
        "m": ServerLoad(num_running=7, num_waiting=2, cache_usage=0.75),
        "other": ServerLoad(num_running=1),
    }


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("vllm", TEXT, {"m": (7, 2, 0.75), "other": (1, 0, None)}),
        (
            "vllm",
            b'vllm:num_requests_running{model_name="m"} 1\nvllm:gpu_cache_usage_perc{model_name="m"} 0.5\n',
            {"m": (1, 0, 0.5)},
        ),
        (
            "sglang",
            b'sglang:num_running_reqs{engine_type="unified",model_name="m",priority="",tp_rank="0"} 5.0\n'
            b'sglang:num_running_reqs{engine_type="unified",model_name="m",priority="1",tp_rank="0"} 5.0\n'
            b'sglang:num_queue_reqs{engine_type="unified",model_name="m",tp_rank="0"} 2.0\n'
            b'sglang:token_usage{engine_type="unified",model_name="m",tp_rank="0"} 0.1\n',
            {"m": (5, 2, 0.1)},
        ),
        (
            "llama_server",
            b"# TYPE llamacpp:requests_processing gauge\n"
            b"llamacpp:requests_processing 2\nllamacpp:requests_deferred 3\n",
            {"": (2, 3, None)},
        ),
        (
            "hodios",
            b'hodios_model_num_running{model="m",provider="local"} 2.0\n'
            b'hodios_model_num_running{model="m",provider="gpu"} 1.0\n'
            b'hodios_model_num_waiting{model="m",provider="local"} 4.0\n',
            {"m": (3, 4, None)},
        ),
    ],
)
def test_every_kind_of_server_is_understood(
    kind: str, text: bytes, found: dict[str, tuple[int, int, float | None]]
) -> None:
    expected = {
        model: ServerLoad(num_running=running, num_waiting=waiting, cache_usage=usage)
        for model, (running, waiting, usage) in found.items()
    }
    assert read_gauges(text, gauges_of(kind)) == expected


@pytest.mark.parametrize(
    "line",
    [
        b'vllm:num_requests_running{model_name="m"} NaN',
        b'vllm:num_requests_running{model_name="m"} +Inf',
        b'vllm:num_requests_running{model_name="m"} -1',
        b'vllm:num_requests_running{model_name="m"} 1e300',
        b'vllm:num_requests_running{model_name="m"} 1_000',
        b'vllm:num_requests_running{model_name="m"} 1-2',
        b'vllm:num_requests_running{model_name="m"}',
        b'vllm:num_requests_running{model_name="m" 1',
        b"vllm:num_requests_running{model_name=m} 1",
        b"vllm:num_requests_running",
        b'vllm:num_requests_running_total{model_name="m"} 1',
        b'# vllm:num_requests_running{model_name="m"} 1',
        b"\xff\xfe\x00",
    ],
)
def test_what_counts_nothing_is_left_out(line: bytes) -> None:
    assert read_gauges(line, VLLM) == {}
    good = b'vllm:num_requests_running{model_name="m"} 2'
    assert read_gauges(b"\n".join((line, good, line)), VLLM) == {"m": ServerLoad(num_running=2)}


@given(
    st.binary(max_size=300), st.lists(st.sampled_from(list(b'vllm:num_requests_running{}="\\ ,model_name 19.eE+-\n')))
)
def test_no_text_is_too_odd(odd: bytes, alphabet: list[int]) -> None:
    for text in (odd, bytes(alphabet), b"vllm:num_requests_running" + odd, TEXT + odd):
        for load in read_gauges(text, VLLM).values():
            assert load.num_running >= 0
            assert load.num_waiting >= 0


Samples = Sequence[tuple[str, int, int, float]]
_MODELS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    st.lists(
        st.tuples(_MODELS, st.integers(0, 999), st.integers(0, 99), st.floats(0, 1)),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_sums_are_right_in_any_order(samples: Samples, rng: object) -> None:
    lines = []
    for engine, (model, running, waiting, usage) in enumerate(samples):
        escaped = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        labels = f'{{engine="{engine}",model_name="{escaped}"}}'
        lines += [
            f"vllm:num_requests_running{labels} {float(running)}",
            f"vllm:num_requests_waiting{labels} {waiting} 1700000000000",
            f"vllm:kv_cache_usage_perc{labels} {usage!r}",
            f"vllm:prompt_tokens_total{labels} 5",
        ]
    rng.shuffle(lines)  # type: ignore[attr-defined]
    found = read_gauges("\n".join(lines).encode(), VLLM)
    assert set(found) == {model for model, *_ in samples}
    for model, load in found.items():
        own = [sample for sample in samples if sample[0] == model]
        assert load.num_running == sum(sample[1] for sample in own)
        assert load.num_waiting == sum(sample[2] for sample in own)
        assert math.isclose(load.cache_usage or 0.0, max(sample[3] for sample in own))


def test_one_model_alone_stands_for_all_of_the_server() -> None:
    one, other = ServerLoad(num_running=1), ServerLoad(num_running=2)
    names = {"maker/m": "m", "maker/adapter": "adapter"}
    assert loads_of({"m": one}, names) == {"maker/m": one, "maker/adapter": one}
    assert loads_of({"": one}, names) == {"maker/m": one, "maker/adapter": one}
    assert loads_of({"m": one, "x": other}, names) == {"maker/m": one}
    assert loads_of({}, names) == {}


def remote(url: str, gauges: LoadGauges | None = VLLM) -> Remote:
    model = RemoteModel(id="maker/m", upstream_id="m", context_length=1000)
    return Remote(name="acme", base_url=f"{url}/v1", load=gauges, models=(model,))


def text(*parts: object, status: int = 200, **headers: str) -> Reply:
    return Reply(parts, status, dict(headers), "text/plain")


async def told(upstream: ScriptedUpstream, gauges: LoadGauges | None = VLLM) -> dict[str, ServerLoad]:
    provider = RemoteProvider(remote(upstream.url, gauges), KEY)
    assert await provider.loads() == {}, "before it is started there is nobody to ask"
    await provider.start()
    try:
        return dict(await provider.loads())
    finally:
        await provider.aclose()


async def test_a_server_is_asked_beside_its_version_and_with_its_key() -> None:
    async with serving(ScriptedUpstream(replies=[text(TEXT[:200], TEXT[200:])])) as upstream:
        assert await told(upstream) == {"maker/m": ServerLoad(num_running=7, num_waiting=2, cache_usage=0.75)}
    (asked,) = upstream.asked
    assert asked.path == "/metrics"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "reply",
    [
        text(TEXT, status=404),
        text(TEXT, status=302, Location="/metrics/"),
        text(*([b"x" * 2**16] * (MOST_BYTES // 2**16)), TEXT),
        text(TEXT[:100], HANG),
        text(b"\xff" * 1000),
        Reply(is_head_missing=True),
    ],
    ids=["no such route", "a redirect", "too much", "slow", "nonsense", "cut off"],
)
async def test_what_does_not_come_whole_and_in_time_says_nothing(reply: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hodios.providers.remote._LOADS_S", 0.2)
    async with serving(ScriptedUpstream(replies=[reply])) as upstream:
        assert await told(upstream) == {}


async def test_who_has_no_gauges_is_not_asked() -> None:
    async with serving(ScriptedUpstream()) as upstream:
        assert await told(upstream, None) == {}
    assert upstream.asked == []
    assert await told(ScriptedUpstream(url="http://127.0.0.1:9")) == {}
