from __future__ import annotations

from pathlib import Path

import pytest

from hodios.providers.installed import find, installed, quantization_of


def place(home: Path, *names: str) -> None:
    for name in names:
        path = home / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"GGUF" * 10)


def test_no_folder_is_no_models(tmp_path: Path) -> None:
    assert installed(tmp_path / "nowhere") == []


def test_one_file_has_the_plain_id_and_short_aliases(tmp_path: Path) -> None:
    place(tmp_path, "bartowski/Llama-3.2-1B-Instruct-GGUF/Llama-3.2-1B-Instruct-Q4_K_M.gguf")
    [model] = installed(tmp_path)
    assert model.id == "bartowski/Llama-3.2-1B-Instruct-GGUF"
    assert model.aliases == ("Llama-3.2-1B-Instruct-GGUF", "Llama-3.2-1B-Instruct")
    assert (model.quantization, model.size_bytes, model.files) == ("Q4_K_M", 40, (model.path,))


def test_several_quantizations_are_several_models_and_one_has_the_plain_name(tmp_path: Path) -> None:
    place(tmp_path, "a/m/m-Q8_0.gguf", "a/m/m-Q4_K_M.gguf", "a/m/m.gguf")
    assert {model.id for model in installed(tmp_path)} == {"a/m:Q8_0", "a/m:Q4_K_M", "a/m:m"}
    found = find(installed(tmp_path), "A/M")
    assert found is not None
    assert found.id == "a/m:Q4_K_M"


def test_ids_are_unique_even_for_two_files_of_one_quantization(tmp_path: Path) -> None:
    place(tmp_path, "a/m/x-Q8_0.gguf", "a/m/y-Q8_0.gguf")
    assert [model.id for model in installed(tmp_path)] == ["a/m:x-Q8_0", "a/m:y-Q8_0"]


def test_aliases_that_could_mean_two_models_mean_none(tmp_path: Path) -> None:
    place(tmp_path, "a/Same/Same.gguf", "b/same/same.gguf", "b/other-GGUF/other.gguf")
    by_id = {model.id: model.aliases for model in installed(tmp_path)}
    assert by_id == {"a/Same": (), "b/same": (), "b/other-GGUF": ("other-GGUF", "other")}
    assert find(installed(tmp_path), "same") is None


def test_what_is_not_whole_is_not_installed(tmp_path: Path) -> None:
    place(tmp_path, "a/m/m.gguf.part", "a/m/m.gguf.part.json", "a/s/s-00001-of-00002.gguf", "a/h/.h.gguf", "stray.gguf")
    assert installed(tmp_path) == []


@pytest.mark.parametrize("name", ["A/M", "a/m", "M", "m"])
def test_names_match_without_regard_to_case(tmp_path: Path, name: str) -> None:
    place(tmp_path, "a/M/M.gguf")
    assert find(installed(tmp_path), name) is not None


@pytest.mark.parametrize(
    ("name", "quantization"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("llama-2-7b.q5_K_S.gguf", "Q5_K_S"),
        ("Qwen2.5-7B-bf16-00001-of-00004.gguf", "BF16"),
        ("model-f16.gguf", "F16"),
        ("Model-IQ3_XXS.gguf", "IQ3_XXS"),
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Q4-Model.gguf", "Q4"),
        ("plain.gguf", ""),
    ],
)
def test_quantization_by_name(name: str, quantization: str) -> None:
    assert quantization_of(name) == quantization
