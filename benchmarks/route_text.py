"""How often prompts alone find the right learnware: domains of real tasks, prompts of their held-out rows.

    python benchmarks/route_text.py DATA [--space minilm-l6] [--rows 256] [--prompts 128] [--json route-text.json]

DATA is a folder of ``NAME.train.jsonl.gz`` and ``NAME.test.jsonl.gz`` with ``text``, perhaps ``text_pair``. Each task
has one learnware, whose domain is that of ``rows`` training rows. 1, 4 or 16 held-out rows are the prompts. *First* is
how often the own learnware is first (``sst2`` and ``mr`` are one source and count as the same). A *foreign* question is
asked of a dock without the learnwares of its source (``SOURCES``).
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.search.route import COHESION, route
from learndock.search.table import SpecTable
from learndock.spaces import get_space
from learndock.spaces.onnx_helper import load_helper
from learndock.spec.domain import Domain

#: Tasks whose texts come from one source.
SOURCES = {
    **dict.fromkeys(("sst2", "mr", "subj"), "films"),
    **dict.fromkeys(("tweet_emotion", "tweet_offensive"), "tweets"),
    **dict.fromkeys(("rte", "mrpc", "stsb"), "news"),
}
SAME = ({"sst2", "mr"},)
QUESTIONS = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--space", default="minilm-l6")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    features = read_features(chosen.data, chosen.space, chosen.rows, chosen.prompts)
    found = measure(features, chosen.space)
    print(json.dumps(found, indent=1))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))


def read_features(
    data: Path, space: str, rows: int, prompts: int
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return the centred features of each task's training and held-out rows."""
    opened, found = get_space(space), {}
    helper = load_helper(opened)
    for file in sorted(data.glob("*.train.jsonl.gz")):
        name = file.name.partition(".")[0]
        parts = []
        for split, count in (("train", rows), ("test", prompts)):
            with gzip.open(data / f"{name}.{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
                every = [json.loads(line) for line in lines]
            drawn = [every[i] for i in np.random.default_rng(0).permutation(len(every))[:count]]
            inputs = [(r["text"], r["text_pair"]) if r.get("text_pair") else r["text"] for r in drawn]
            parts.append(helper.features(inputs) - opened.center)
        found[name] = (parts[0], parts[1])
    return found


def measure(features: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]], space: str) -> dict[str, Any]:
    """Return the shares, by the number of prompts."""
    names = sorted(features)
    domains = np.stack([features[n][0].mean(0) for n in names])
    table = SpecTable(
        [f"dock/{n}@{'0' * 64}" for n in names], domains, np.ones((len(names), 8), np.float32), np.ones(len(names))
    )
    single = [float(np.median(_unit(features[n][1]) @ table.domain[i])) for i, n in enumerate(names)]
    found: dict[str, Any] = {
        "tasks": len(names),
        "cohesion": round(float(np.median(single)) ** 2, 3),
        "used": COHESION.get(space),
    }
    for count in (1, 4, 16):
        for foreign in (False, True):
            draw = np.random.default_rng(1)
            seen = dict.fromkeys(("first", "nothing fits", "sure", "sure and first"), 0)
            for i, name in enumerate(names):
                rows = np.array(
                    [j for j, n in enumerate(names) if not foreign or SOURCES.get(n, n) != SOURCES.get(name, name)]
                )
                for _ in range(QUESTIONS):
                    chosen = draw.choice(len(features[name][1]), min(count, len(features[name][1])), replace=False)
                    asked = Domain("", features[name][1][chosen].mean(0), count)
                    answer = route(table, asked, rows, space=space)
                    first = same(answer.nearest[0].name.partition("/")[2], names[i])
                    seen["first"] += first
                    seen["nothing fits"] += answer.fits is False
                    seen["sure"] += answer.sure
                    seen["sure and first"] += answer.sure and first
            total = len(names) * QUESTIONS
            found[f"{count} prompts{', foreign' if foreign else ''}"] = {
                k: round(v / total, 3) for k, v in seen.items()
            }
    return found


def same(one: str, other: str) -> bool:
    """Return whether two tasks are one source and one question."""
    return one == other or any({one, other} <= group for group in SAME)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


if __name__ == "__main__":
    main()
