"""What comes with Hodios: that every file makes sense, and that nothing which is known of a model is lost."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

import pytest

from hodios.api.parameters import CHAT, COMPLETIONS, parameters
from hodios.dialog.families import FAMILIES
from hodios.providers.catalog import Catalog, make_catalog, read_rows, row_files, shipped_folder
from hodios.providers.catalog_remotes import can_continue, card_of
from hodios.providers.catalog_rows import Benchmark, ModelRow
from hodios.providers.hub import is_repository
from hodios.types import Price

FILES = row_files([shipped_folder()])
HERMES_2_PRO = "NousResearch/Hermes-2-Pro-Llama-3-8B"
LLAMA_33 = "meta-llama/Llama-3.3-70B-Instruct"
LLAMA_31 = "meta-llama/Llama-3.1-8B-Instruct"
OPENHERMES = "teknium/OpenHermes-2.5-Mistral-7B"
MIXTRAL = "NousResearch/Nous-Hermes-2-Mixtral-8x7B-DPO"
LLAMA_2_13B = "NousResearch/Nous-Hermes-Llama2-13b"
VISION = "NousResearch/Nous-Hermes-2-Vision-7B"
CHRONOS = "Austism/chronos-hermes-13b-v2"
NEMOTRON = "nvidia/Llama-3.1-Nemotron-70B-Instruct"
LLAMA_2 = "meta-llama/Llama-2-70b-chat-hf"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
HOSTED = {"openrouter", "together", "deepinfra", "novita", "302ai", "apipie", "openai"}
OWN = {"vllm", "sglang", "ray_serve_llm", "llama_server", "llama_cpp_python", "ollama", "lm_studio", "hodios"} | {
    "openai_compatible"
}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return make_catalog(read_rows([shipped_folder()]), (), {}, lambda variable: "sk-test", version=1)


def model(catalog: Catalog, id: str) -> ModelRow:
    return catalog.models[id]


def benchmark(catalog: Catalog, id: str, name: str) -> Benchmark:
    (found,) = [table for table in model(catalog, id).card.benchmarks if table.name == name]
    return found


def test_everybody_and_everything_is_there(catalog: Catalog) -> None:
    assert set(catalog.providers) == HOSTED | OWN
    assert {name for name, row in catalog.providers.items() if row.is_hosted} == HOSTED
    families = {
        HERMES_2_PRO: "hermes",
        LLAMA_33: "llama3",
        LLAMA_31: "llama3",
        OPENHERMES: "chatml",
        MIXTRAL: "chatml",
        LLAMA_2_13B: "alpaca",
        VISION: "vicuna",
        CHRONOS: "alpaca",
        NEMOTRON: "llama3",
        LLAMA_2: "llama2",
        SMOLLM2: "chatml",
    }
    assert {id: row.family for id, row in catalog.models.items()} == families
    assert all(FAMILIES[row.family].template for row in catalog.models.values())


def test_files_are_named_after_what_they_hold(catalog: Catalog) -> None:
    assert {path.stem for path in FILES if path.parent.name == "providers"} == set(catalog.providers)
    assert {path.stem for path in FILES if path.parent.name == "series"} == set(catalog.series)


def test_hosted_providers_have_an_address_and_a_key_and_others_neither(catalog: Catalog) -> None:
    for row in catalog.providers.values():
        assert bool(row.base_url) == bool(row.api_key_env) == row.is_hosted, row.name
        assert bool(row.usual_url) == (not row.is_hosted and row.name != "openai_compatible"), row.name


def test_parameters_are_known_ones(catalog: Catalog) -> None:
    known = {*parameters(CHAT, 128), *parameters(COMPLETIONS, 128)}
    for row in catalog.providers.values():
        assert set(row.parameters) <= known, row.name
        assert set(row.ranges) <= known, row.name
    assert all(set(offer.parameters or ()) <= known for offer in catalog.offers)


def test_every_model_can_be_pulled_but_the_one_without_a_file(catalog: Catalog) -> None:
    for id, row in catalog.models.items():
        assert is_repository(id)
        assert row.hub.safetensors, id
        assert all(is_repository(repository) for repository in (row.hub.safetensors, *row.hub.gguf)), id
        assert bool(row.hub.gguf) == (id != VISION), id
        assert row.sources, id
        assert row.card.source, id


def test_an_architectures_context_is_not_an_offers(catalog: Catalog) -> None:
    contexts = {id: row.context_length for id, row in catalog.models.items()}
    assert contexts == {
        HERMES_2_PRO: 8192,
        LLAMA_33: 131072,
        LLAMA_31: 131072,
        OPENHERMES: 32768,
        MIXTRAL: 32768,
        LLAMA_2_13B: 4096,
        VISION: 4096,
        CHRONOS: 4096,
        NEMOTRON: 131072,
        LLAMA_2: 4096,
        SMOLLM2: 8192,
    }
    (offer,) = [offer for offer in catalog.offers_of(HERMES_2_PRO) if offer.provider == "novita"]
    assert offer.context_length == 131072
    assert str(offer.as_of) == "2024-11-15"
    assert catalog.price(offer) == Price(prompt=390_000_000, completion=390_000_000)
    assert "repetition_penalty" in offer.configuration
    assert len(offer.configuration) == 10


def test_the_six_printed_rows_of_apipie(catalog: Catalog) -> None:
    rows = {
        (offer.id, offer.context_length, offer.max_output_tokens, offer.via, model(catalog, offer.model).type)
        for offer in catalog.offers
        if offer.provider == "apipie"
    }
    assert rows == {
        ("nous-hermes-llama2-13b", 4096, 4096, "openrouter", "llm"),
        ("nous-hermes-2-mixtral-8x7b-dpo", 32768, 32768, "openrouter", "llm"),
        ("nous-hermes-2-vision-7b", 4096, 4096, "openrouter", "vision"),
        ("openhermes-2.5-mistral-7b", 4096, 4096, "openrouter", "llm"),
        ("chronos-hermes-13b-v2", 4096, 4096, "deepinfra", "llm"),
        ("Nous-Hermes-2-Mixtral-8x7B-DPO", 32768, 32768, "together", "llm"),
    }
    assert {str(offer.as_of) for offer in catalog.offers if offer.provider == "apipie"} == {"2024-10-21"}


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("nousresearch/hermes-2-pro-llama-3-8b", HERMES_2_PRO),
        ("meta-llama/llama-3.3-70b-instruct", LLAMA_33),
        ("meta-llama/llama-3.1-8b-instruct", LLAMA_31),
        ("teknium/openhermes-2.5-mistral-7b", OPENHERMES),
        ("nous-hermes-2-mixtral-8x7b-dpo", MIXTRAL),
        ("Nous-Hermes-2-Mixtral-8x7B-DPO", MIXTRAL),
        ("nous-hermes-llama2-13b", LLAMA_2_13B),
        ("nous-hermes-2-vision-7b", VISION),
        ("openhermes-2.5-mistral-7b", OPENHERMES),
        ("chronos-hermes-13b-v2", CHRONOS),
        ("llama-3.1-nemotron", NEMOTRON),
        ("meta-llama/Llama-2-70b-chat-hf", LLAMA_2),
        ("SmolLM2-135M-Instruct", SMOLLM2),
    ],
)
def test_names_that_clients_of_other_systems_send_are_known(catalog: Catalog, name: str, id: str) -> None:
    found = catalog.find(name)
    assert found is not None
    assert found.id == id


@pytest.mark.parametrize(
    ("id", "name", "num_results", "values", "errors", "average"),
    [
        (HERMES_2_PRO, "GPT4All", 12, "8.2773", "0.1340", "72.62"),
        (HERMES_2_PRO, "AGIEval", 16, "6.9053", "0.4437", "42.44"),
        (HERMES_2_PRO, "BigBench", 19, "7.8383", "0.3725", "43.55"),
        (HERMES_2_PRO, "TruthfulQA", 2, "0.988", "0.0329", None),
        (HERMES_2_PRO, "Function calling evaluation", 1, "90", "0", None),
        (HERMES_2_PRO, "Structured JSON output evaluation", 1, "84", "0", None),
        (LLAMA_33, "Instruction tuned models", 9, "718.9", "0", None),
        (LLAMA_31, "Instruction tuned models", 9, "565.1", "0", None),
        (OPENHERMES, "HumanEval", 1, "50.7", "0", None),
    ],
)
def test_no_number_of_a_benchmark_is_lost(
    catalog: Catalog, id: str, name: str, num_results: int, values: str, errors: str, average: str | None
) -> None:
    table = benchmark(catalog, id, name)
    assert len(table.results) == num_results
    assert sum(result.value for result in table.results) == Decimal(values)
    assert sum(result.standard_error or 0 for result in table.results) == Decimal(errors)
    assert table.average == (None if average is None else Decimal(average))


@pytest.mark.parametrize("name", ["GPT4All", "AGIEval", "BigBench"])
def test_printed_averages_are_those_of_the_tables(catalog: Catalog, name: str) -> None:
    """Of a task's normalised accuracy where it has one, else of its first number."""
    table = benchmark(catalog, HERMES_2_PRO, name)
    scores: dict[str, Decimal] = {}
    for result in table.results:
        if result.task not in scores or result.metric == "acc_norm":
            scores[result.task] = result.value
    mean = 100 * sum(scores.values()) / len(scores)
    assert round(mean, 2) == table.average


def test_the_table_of_llama_has_all_its_columns(catalog: Catalog) -> None:
    table = benchmark(catalog, LLAMA_33, "Instruction tuned models")
    columns = {name: sum(result.others[name] for result in table.results) for name in table.results[0].others}
    assert columns == {
        "Llama 3.1 8B Instruct": Decimal("565.1"),
        "Llama 3.1 70B Instruct": Decimal("686.8"),
        "Llama 3.1 405B Instruct": Decimal("723.6"),
    }
    own = benchmark(catalog, LLAMA_31, "Instruction tuned models")
    assert [result.value for result in own.results] == [r.others["Llama 3.1 8B Instruct"] for r in table.results]
    shots = {result.task: result.num_shots for result in table.results}
    assert (shots["MMLU (CoT)"], shots["MMLU Pro (CoT)"], shots["IFEval"]) == (0, 5, None)
    metrics = {result.metric for result in table.results}
    assert {"macro_avg/acc", "acc", "pass@1", "sympy_intersection_score", "em", ""} < metrics


FACTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        HERMES_2_PRO: (
            *("OpenHermes 2.5", "Fireworks.AI", "@interstellarninja", "<tool_response>", "5 GB", "ChatML", "LM Studio"),
            *(
                "tool_use",
                "jsonmode.py",
                "repetition_penalty=1.1",
                "max_new_tokens=750",
                "Hermes-2-Pro-Llama-3-8B-GGUF",
            ),
        ),
        LLAMA_33: (
            *(
                "15T+",
                "December 2023",
                "25 million",
                "39.3M",
                "7.0M",
                "2,040",
                "700 W",
                "Llama Guard 3",
                "Prompt Guard",
            ),
            *("Code Shield", "CBRNE", "Child safety", "GQA", "RLHF", "distillation", "Acceptable Use", "LICENSE"),
            *("strongly discouraged", "English", "Thai", "Hindi", "Responsible Use Guide"),
        ),
        OPENHERMES: ("1,000,000", "7-14%", "43%", "50.7%", "GlaiveAI", "a16z", "axolotl", "ShareGPT", "TruthfulQA"),
        NEMOTRON: ("o1", "Nvidia"),
        LLAMA_2: ("DeepInfra",),
    }
)


@pytest.mark.parametrize("id", FACTS)
def test_no_fact_of_a_card_is_lost(catalog: Catalog, id: str) -> None:
    text = repr(model(catalog, id).card)
    assert [fact for fact in FACTS[id] if fact not in text] == []


def test_the_languages_of_llama(catalog: Catalog) -> None:
    languages = ("English", "German", "French", "Italian", "Portuguese", "Hindi", "Spanish", "Thai")
    assert model(catalog, LLAMA_33).card.languages == languages


def test_a_series_tells_what_its_models_share(catalog: Catalog) -> None:
    series = catalog.series["hermes"]
    of_it = {id for id, row in catalog.models.items() if row.series == "hermes"}
    assert of_it == {HERMES_2_PRO, OPENHERMES, MIXTRAL, LLAMA_2_13B, VISION, CHRONOS}
    titles = [section.title for section in series.card.sections]
    assert titles == ["Key Features", "Applications and Integrations", "Ethical Considerations", "Licensing"]
    assert "2305.18290" in series.card.links["direct_preference_optimization"]


def test_ranges_are_those_of_the_references(catalog: Catalog) -> None:
    ranges = catalog.providers["deepinfra"].ranges
    assert (ranges["n"].min, ranges["n"].max, ranges["stop"].max_items) == (1, 4, 16)
    assert (ranges["repetition_penalty"].min, ranges["repetition_penalty"].max) == (Decimal("0.01"), 5)
    assert (ranges["seed"].min, ranges["seed"].max) == (-(2**63), 2**64 - 1)
    assert ranges["top_p"].is_above_min
    of_302 = catalog.providers["302ai"]
    assert (of_302.ranges["stop"].max_items, of_302.ranges["logit_bias"].min) == (4, -100)
    assert "logit_bias" in of_302.parameters
    assert "logit_bias" not in catalog.providers["deepinfra"].parameters


def test_who_can_continue_an_answer(catalog: Catalog) -> None:
    able = {row.name for row in catalog.providers.values() if can_continue(row, model(catalog, LLAMA_33))}
    assert able == {"openrouter", "together", "deepinfra", "novita"} | OWN - {"openai_compatible"}


def test_every_offer_can_be_served(catalog: Catalog) -> None:
    for offer in catalog.offers:
        card = card_of(catalog, offer)
        assert card is not None
        assert card.context_length == (offer.context_length or model(catalog, offer.model).context_length)
        assert card.collects_data == (catalog.providers[offer.provider].data_policy.collects is not False)
    vision = [card_of(catalog, offer) for offer in catalog.offers_of(VISION)]
    assert {card.modalities for card in vision if card} == {("text", "image")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_readable(path: Path) -> None:
    """Nothing of how they were made, and no line that a terminal would break beyond reading."""
    text = path.read_text(encoding="utf-8")
    assert "/work" not in text
    assert "seed 0" not in text
    assert text.endswith("\n")
    assert "\t" not in text
