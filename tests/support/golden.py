"""Spec files of learndock 0.1.0, committed under ``tests/golden/0.1.0``: what every later version must read.

    python -m tests.support.golden        # writes them; needs torch and the weights of the built-in spaces

Run it again only while 0.1.0 is not released. Beside the files stands ``expected.json``: what they say, in numbers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from learndock.data import Examples, Image, Prompt, Schema
from learndock.spec import Spec, make_spec, read_spec, similarity, write_spec
from tests.support.tiny import TINY

GOLDEN = Path(__file__).parents[1] / "golden" / "0.1.0"
PARTS = ("domain", "behaviour", "contrasts", "vector")

MOOD = Schema("classification", ("bad", "good"), ("a bad film", "a good film"), "accuracy")
STARS = Schema("regression", ("0", "5"), ("a bad film", "a good film"), "pearson")
SHADE = Schema("classification", ("dark", "light"), ("dark", "light"), "accuracy")
ANSWER = Schema("generation", (), (), "token_f1")
WORDS = ("film", "day", "doctor", "match", "loan", "answer", "rain", "team")


def _texts(labels: tuple[str, ...], *, pairs: bool = False) -> list[Any]:
    rows = [(f"a {label} {word}", f"the {word}") for word in WORDS for label in labels]
    return rows if pairs else [text for text, _ in rows]


def _images() -> list[Image]:
    """Eight by eight noise, dark and light in turn."""
    draw = np.random.Generator(np.random.Philox(key=7))
    return [
        Image.from_pixels(draw.integers(128 * (i % 2), 128 + 128 * (i % 2), (8, 8, 3)).astype(np.uint8))
        for i in range(16)
    ]


def specs() -> dict[str, Spec]:
    """Every built-in space and every layout: tasks with contrasts, models without, pairs, the whole vector, papers'."""
    turns = np.arange(16) % 2
    sure = np.stack([1 - turns * 0.9, turns * 0.9], axis=1)
    sure /= sure.sum(1, keepdims=True)
    texts = Examples(_texts(MOOD.labels), turns, MOOD)
    pairs = Examples(_texts(MOOD.labels, pairs=True), turns, MOOD)
    values = Examples(_texts(MOOD.labels), turns * 5.0, STARS)
    images = Examples(_images(), turns, SHADE)
    found = {
        "minilm-l6-task": make_spec(texts, space="minilm-l6"),
        "minilm-l6-model": make_spec(texts, space="minilm-l6", predictions=sure),
        "minilm-l6-means-task": make_spec(texts, space="minilm-l6", head="means"),
        "minilm-l6-pairs-task": make_spec(pairs, space="minilm-l6"),
        "minilm-l6-regression-task": make_spec(values, space="minilm-l6"),
        "efficientnet-lite0-task": make_spec(images, space="efficientnet-lite0"),
        "efficientnet-lite0-model": make_spec(images, space="efficientnet-lite0", predictions=sure),
    }
    for space in ("smollm2-135m", str(TINY / "tiny-causal")):
        name = Path(space).name
        prompts = [Prompt.of(f"the {word} was") for word in (*WORDS, *WORDS[::-1])]
        completions = np.array([MOOD.labels[i % 2] for i in range(16)], dtype=object)
        found[f"{name}-task"] = make_spec(Examples(prompts, completions, ANSWER), space=space)
        found[f"{name}-model"] = make_spec(Examples(prompts, None, ANSWER), space=space, predictions=completions)
    found["tiny-vector-task"] = make_spec(texts, space=str(TINY / "tiny"), full=True)
    found["tiny-paper-task"] = make_spec(texts, space=str(TINY / "tiny"), recipe="paper", steps=4, full=True)
    return found


def told(spec: Spec) -> dict[str, Any]:
    """What a spec says: its words as they are, of each part the shape, the SHA-256 and the first numbers."""
    words = ("kind", "n", "settings", "p_value", "reliability", "privacy", "space_id", "version")
    found: dict[str, Any] = {name: getattr(spec, name) for name in words}
    found["schema"] = dict(spec.schema)
    for name in PARTS:
        values = getattr(spec, name)
        if values is not None:
            numbers = np.ascontiguousarray(values, "<f4")
            found[name] = {
                "shape": list(numbers.shape),
                "sha256": hashlib.sha256(numbers.tobytes()).hexdigest(),
                "first": [float(v) for v in numbers.ravel()[:4]],
            }
    return found


def main() -> None:
    """Write the files and what they say."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir(parents=True)
    made = specs()
    for name, spec in made.items():
        write_spec(spec, GOLDEN / f"{name}.spec")
    read = {name: read_spec(GOLDEN / f"{name}.spec") for name in made}
    expected = {
        "specs": {name: told(spec) for name, spec in read.items()},
        "similarities": {
            f"{one} {other}": similarity(read[one], read[other])
            for one in read
            for other in read
            if one < other and read[one].space_id == read[other].space_id
        },
    }
    (GOLDEN / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
