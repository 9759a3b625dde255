"""The tasks of the bench of language models: real questions, as instructions, in four fields.

Named before anything was measured. Texts with labels become prompts that name the labels; GSM8K (Cobbe et al. 2021)
gives worked answers in free text and two questions about the same problems; PubMedQA (Jin et al. 2019) is asked with
its conclusion, as in the authors' "reasoning-free" setting.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learndock.bench.size import Size
from learndock.bench.tasks import Task, split, spread
from learndock.data import Examples, Schema
from learndock.data.prompts import Prompt
from learndock.errors import DataError

#: Words of a text, of a question and of a conclusion: the space reads 192 tokens, and a bench reads thousands of them.
WORDS, QUESTION, CONCLUSION = 36, 24, 24
#: Problems longer than this, in words, are left out; so are answers.
PROBLEM, ANSWER = 44, 44
#: Texts with labels that are asked about, and the field of each.
TEXTS = {
    "financial_headlines": "finance",
    "medical_abstracts": "medicine",
    "trec": "general",
    "tweet_emotion": "general",
    "subj": "general",
}
FREE = Schema("generation", (), (), "token_f1")


def llm_tasks(data: Path, size: Size) -> list[Task]:
    """The tasks of a folder that holds ``text`` and ``llm``, each as ``text``'s ``load_tasks`` reads it.

    Raises:
        DataError: a file is missing, or none is there.
    """
    found = [_labelled(data, name, field, size) for name, field in TEXTS.items()]
    found.insert(1, _numbers(data, size))
    found += [_pubmed(data, size), *_problems(data, size)]
    if size.tasks:
        found = spread(found, size.tasks)
    return found


def _rows(data: Path, name: str, part: str) -> list[dict[str, Any]]:
    for folder in ("llm", "text", "."):
        path = data / folder / f"{name}.{part}.jsonl.gz"
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8") as stream:
                return [json.loads(line) for line in stream]
    raise DataError(f"has no llm/{name}.{part}.jsonl.gz, nor text/{name}.{part}.jsonl.gz", about=data)


def _short(text: str, words: int) -> str:
    return " ".join(text.split()[:words])


def options(labels: Sequence[str]) -> str:
    """The line that names the labels."""
    return f"{', '.join(labels[:-1])} or {labels[-1]}?"


def _make(
    data: Path, name: str, source: str, field: str, schema: Schema, size: Size,
    ask: Callable[[Mapping[str, Any]], tuple[str, Any] | None], base: str | None = None,
) -> Task:  # fmt: skip
    parts = []
    for part in ("train", "test"):
        asked = [found for row in _rows(data, source, part) if (found := ask(row)) is not None]
        targets = np.array([t for _, t in asked], object if schema.type == "generation" else np.int64)
        parts.append(Examples([Prompt.of(text) for text, _ in asked], targets, schema))
    card = f"{name.replace('_', ' ')}: {', '.join(schema.labels) or 'worked answers'}. {field}"
    return split(name, schema, parts[0], parts[1], size, family=name, domain=field, card=card, base=base)


def _classes(labels: Sequence[str]) -> Schema:
    return Schema("classification", tuple(labels), tuple(labels), "accuracy")


def _labelled(data: Path, name: str, field: str, size: Size) -> Task:
    index = data / "text" / "tasks.json"
    if not index.is_file():
        raise DataError(
            "has no text/tasks.json", remedy="name the folder that holds the folders text and llm", about=data
        )
    labels = [str(v) for v in json.loads(index.read_text(encoding="utf-8"))[name]["labels"]]

    def ask(row: Mapping[str, Any]) -> tuple[str, int]:
        label = str(row["label"])
        place = labels.index(label) if label in labels else int(row["label"])
        return f"{_short(row['text'], WORDS)}\n{options(labels)}", place

    return _make(data, name, name, field, _classes(labels), size, ask)


def _numbers(data: Path, size: Size) -> Task:
    """Another question of the same headlines."""
    labels = ("without a figure", "with a figure")
    return _make(
        data, "financial_headlines: figures", "financial_headlines", "finance", _classes(labels), size,
        lambda row: (f"{_short(row['text'], WORDS)}\n{options(labels)}", int(bool(re.search(r"\d", row["text"])))),
        base="financial_headlines",
    )  # fmt: skip


def _pubmed(data: Path, size: Size) -> Task:
    labels = ("yes", "no", "maybe")

    def ask(row: Mapping[str, Any]) -> tuple[str, int] | None:
        if row["answer"] not in labels:
            return None
        text = f"{_short(row['question'], QUESTION)}\n{_short(row['long_answer'], CONCLUSION)}\n{options(labels)}"
        return text, labels.index(row["answer"])

    return _make(data, "pubmedqa", "pubmedqa", "medicine", _classes(labels), size, ask)


def _problems(data: Path, size: Size) -> list[Task]:
    """GSM8K: worked answers; is it about money; how many steps does it take."""

    def short(row: Mapping[str, Any]) -> str | None:
        said = worked(row["answer"])
        long = len(row["question"].split()) > PROBLEM or len(said.split()) > ANSWER
        return None if long else said

    def free(row: Mapping[str, Any]) -> tuple[str, str] | None:
        said = short(row)
        return None if said is None else (row["question"], said)

    def labelled(labels: Sequence[str], which: Callable[[str], int]) -> Callable[[Mapping[str, Any]], Any]:
        def ask(row: Mapping[str, Any]) -> tuple[str, int] | None:
            if short(row) is None:
                return None
            return f"{row['question']}\n{options(labels)}", which(row["answer"])

        return ask

    money, long = ("a number", "an amount of money"), ("in one or two steps", "in three or more steps")
    return [
        _make(data, "gsm8k", "gsm8k", "mathematics", FREE, size, free),
        _make(data, "gsm8k: money", "gsm8k", "mathematics", _classes(money), size,
              labelled(money, lambda a: int("$" in a)), base="gsm8k"),
        _make(data, "gsm8k: steps", "gsm8k", "mathematics", _classes(long), size,
              labelled(long, lambda a: int(a.count("<<") > 2)), base="gsm8k"),
    ]  # fmt: skip


def worked(answer: str) -> str:
    """GSM8K's answer in plain words: without the calculator's notes, the result at the end."""
    text = re.sub(r"<<[^>]*>>", "", answer)
    steps, _, result = text.partition("####")
    return f"{' '.join(steps.split())} The answer is {result.strip()}."
