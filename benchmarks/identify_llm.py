"""Does a spec of prompts and completions see what is answered? Real tasks as instructions, in smollm2-135m.

Of every task there are two owners with the same prompts: one whose model answers right, one whose answers are shuffled.
A user with other prompts asks who fits. No model is trained: an owner's predictions are the labels themselves, so what
is measured is the specification. Every spec is kept under OUT, so a run that was stopped goes on; stop it at any time
and it reports what is there.

    python benchmarks/identify_llm.py --data DATA --out OUT [--task trec ...] [--users 32] [--owners 64]
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from learndock.data import Examples, Schema
from learndock.data.choose import few_shot
from learndock.data.prompts import Prompt
from learndock.search.score import rank
from learndock.spaces import Space, get_space
from learndock.spec import Spec, make_spec, read_spec, write_spec

TASKS = ("trec", "tweet_emotion", "financial_headlines", "medical_abstracts", "subj", "mr", "pubmedqa", "gsm8k")
FREE = Schema("generation", (), (), "exact_match")
#: Words of a text that are asked about.
WORDS = 60


def rows_of(data: Path, task: str, split: str) -> list[dict[str, Any]]:
    """The rows of one part of a task."""
    folder = data / "llm" if (data / "llm" / f"{task}.{split}.jsonl.gz").is_file() else data / "text"
    with gzip.open(folder / f"{task}.{split}.jsonl.gz", "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def as_prompts(data: Path, task: str, split: str) -> Examples:
    """A task as instructions: its texts with the labels to choose from, or questions and worked answers."""
    rows = rows_of(data, task, split)
    if task == "gsm8k":
        asked = [Prompt.of(r["question"]) for r in rows]
        return Examples(asked, np.array([r["answer"] for r in rows], object), FREE)
    if task == "pubmedqa":
        return _pubmed(rows)
    about = json.loads((data / "text" / "tasks.json").read_text(encoding="utf-8"))[task]
    labels = tuple(str(v) for v in about["labels"])
    schema = Schema("classification", labels, labels, "accuracy")
    ask = "\nWhich of these is it: " + ", ".join(labels) + "?"
    asked = [Prompt.of(" ".join(r["text"].split()[:WORDS]) + ask) for r in rows]
    targets = [labels.index(str(r["label"])) if str(r["label"]) in labels else int(r["label"]) for r in rows]
    return Examples(asked, np.array(targets), schema)


def _pubmed(rows: list[dict[str, Any]]) -> Examples:
    labels = ("yes", "no", "maybe")
    key = next(k for k in ("final_decision", "label", "answer") if str(rows[0].get(k)).lower() in labels)
    asked = [Prompt.of(f"{r['question']}\nAnswer yes, no or maybe.") for r in rows]
    targets = np.array([labels.index(str(r[key]).lower()) for r in rows])
    return Examples(asked, targets, Schema("classification", labels, labels, "accuracy"))


def draw(examples: Examples, count: int, seed: int, *, balanced: bool = False) -> Examples:
    """``count`` of the examples; ``balanced`` gives every label its part."""
    schema = examples.schema
    if balanced and schema is not None and schema.classes:
        return examples.take(few_shot(examples, schema, max(count // schema.classes, 2), seed)[0])
    return examples.take(np.random.default_rng(seed).permutation(len(examples))[:count])


def spec_of(out: Path, name: str, examples: Examples, *, shuffled: int | None, model: bool, space: Space) -> Spec:
    """A spec, made once; ``shuffled`` mixes up the answers."""
    path = out / f"{name}.spec"
    if path.is_file():
        return read_spec(path)
    targets = examples.targets
    assert targets is not None
    if shuffled is not None:
        targets = np.random.default_rng(shuffled).permutation(targets)
    began, used = time.perf_counter(), time.process_time()
    if model:
        spec = make_spec(Examples(examples.inputs), examples.schema, predictions=targets, space=space)
    else:
        spec = make_spec(Examples(examples.inputs, targets, examples.schema), space=space)
    write_spec(spec, path)
    took = {"n": len(examples), "wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - used}
    (out / f"{name}.json").write_text(json.dumps(took), encoding="utf-8")
    print(f"{name}: {took['wall_s']:.0f} s, {took['cpu_s']:.0f} s of processor", flush=True)
    return spec


def report(users: dict[str, Spec], owners: dict[tuple[str, str], Spec]) -> dict[str, Any]:
    """For every user: who comes first, and the cosines with the own right and the own shuffled owner."""
    names = list(owners)
    domains = np.stack([s.unit_domain for s in owners.values()])
    behaviours = np.stack([s.unit_behaviour for s in owners.values()])
    reliability = np.array([s.reliability for s in owners.values()])
    found = {}
    for task, user in users.items():
        ranked = rank(user, domains, behaviours, reliability, ["/".join(n) for n in names])
        first = names[int(ranked.key.argmax())]
        own = {kind: names.index((task, kind)) for kind in ("right", "shuffled")}
        found[task] = {
            "first": "/".join(first),
            "own_task_first": first[0] == task,
            "own_right_first": first == (task, "right"),
            "right_ahead_of_shuffled": bool(ranked.key[own["right"]] > ranked.key[own["shuffled"]]),
            **{f"behaviour_{kind}": round(float(ranked.behaviour[place]), 3) for kind, place in own.items()},
            "domain_right": round(float(ranked.domain[own["right"]]), 3),
            "p_value": user.p_value,
        }
    return found


def main() -> None:
    """Make what is missing, task by task, and report after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", action="append", choices=TASKS)
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--owners", type=int, default=64)
    parser.add_argument("--space", default="smollm2-135m")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    space = get_space(given.space)
    users: dict[str, Spec] = {}
    owners: dict[tuple[str, str], Spec] = {}
    for task in given.task or TASKS:
        seed = zlib.crc32(task.encode())
        train = draw(as_prompts(given.data, task, "train"), given.owners, seed, balanced=True)
        test = draw(as_prompts(given.data, task, "test"), given.users, seed + 1, balanced=True)
        users[task] = spec_of(given.out, f"{task}.user", test, shuffled=None, model=False, space=space)
        for kind, shuffled in (("right", None), ("shuffled", seed + 2)):
            name = f"{task}.{kind}"
            owners[task, kind] = spec_of(given.out, name, train, shuffled=shuffled, model=True, space=space)
        found = report(users, owners)
        (given.out / "results.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        counts = {k: sum(v[k] for v in found.values()) for k in ("own_task_first", "own_right_first")}
        ahead = sum(v["right_ahead_of_shuffled"] for v in found.values())
        print(f"{len(found)} tasks: own first {counts}, right ahead of shuffled {ahead}", flush=True)


if __name__ == "__main__":
    main()
