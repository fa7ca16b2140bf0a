"""The prompts of the benchmark, as token ids. Pure: the same numbers give the same prompts."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.tasks import Prompt

REQUEST = "List the people who appear in this text as a JSON document.\n\n"


def random_prompts(rng: np.random.Generator, num_prompts: int, length: int, vocab_size: int) -> list[Prompt]:
    """Tokens drawn evenly from the last nine tenths of the vocabulary, which leaves out control tokens."""
    # numpy says only that lists come out.
    return rng.integers(vocab_size // 10, vocab_size, (num_prompts, length)).tolist()  # type: ignore[no-any-return]


def windows(text: Prompt, num_prompts: int, length: int) -> list[Prompt]:
    """Stretches of a text at even distances, which may overlap; each begins elsewhere. Raises ValueError if it is too
    short for that."""
    distance = (len(text) - length) // max(num_prompts - 1, 1)
    if distance < 1:
        raise ValueError(f"{len(text)} tokens of text give no {num_prompts} prompts of {length} tokens")
    return [text[i * distance : i * distance + length] for i in range(num_prompts)]


def shared_prefix(text: Prompt, num_prompts: int, num_shared: int, num_own: int) -> list[Prompt]:
    """Prompts that begin with the same tokens and go on each in its own way."""
    rest = text[num_shared:]
    return [text[:num_shared] + own for own in windows(rest, num_prompts, num_own)]


def repeating(text: Prompt, length: int, num_times: int) -> Prompt:
    """One passage over and over, and its beginning once more: a model goes on copying it."""
    return text[:length] * num_times + text[: length // 8]


def people_schema() -> str:
    """Answers that match it are longer than any the benchmark asks for."""
    person = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 2},
            "occupation": {"enum": ["doctor", "teacher", "fisherman", "student", "other"]},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "is_present": {"type": "boolean"},
            "remarks": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        },
        "required": ["name", "occupation", "age", "is_present", "remarks"],
        "additionalProperties": False,
    }
    return json.dumps(
        {
            "type": "object",
            "properties": {"people": {"type": "array", "items": person, "minItems": 40}},
            "required": ["people"],
            "additionalProperties": False,
        }
    )
