"""How often does the specification find the right model? One well-trained and one shuffled learnware a task.

    python benchmarks/identify_text.py --data DIR --json OUT [--seed 0] [--shots 16]

DIR holds ``tasks.json`` and ``NAME.{train,test}.jsonl.gz``. For every task the first examples go to the user
(``shots`` a class), the rest of the training part to the owner, who fits a logistic regression (ridge for
regression) on frozen sentence features, once on the labels and once on shuffled labels, and makes each model's
spec from its predictions. The user's task spec is then compared with all learnwares of all tasks. Tasks whose
``source`` is equal and whose labels are equal (mr and sst2 are one source) count for each other.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge

from learndock import Examples, Schema, Spec, get_space, make_spec, read_examples
from learndock.data.choose import few_shot
from learndock.data.metrics import score
from learndock.search.score import rank
from learndock.spaces.onnx_helper import load_helper

OWNER_TRAINING = 800
OWNER_EXAMPLES = 384
TEST = 400
#: One source, split twice by other people.
SIBLINGS = ({"mr", "sst2"},)


@dataclass(frozen=True)
class Learnware:
    """A model's spec and its test score."""

    name: str
    spec: Spec
    score: float


def pair_features(space: Any, inputs: list[Any]) -> NDArray[np.float32]:
    """Sentence features; for pairs u, v, |u - v| and u * v side by side."""
    if not isinstance(inputs[0], tuple):
        return np.asarray(load_helper(space).features(inputs))
    u, v = (load_helper(space).features([pair[side] for pair in inputs]) for side in (0, 1))
    return np.hstack([u, v, np.abs(u - v), u * v])


def fit_predict(
    schema: Schema, X: NDArray[Any], y: NDArray[Any], others: list[NDArray[Any]]
) -> list[NDArray[np.float64]]:
    """Fit on (X, y); predict probabilities or values for each of ``others``."""
    if schema.type == "regression":
        model = Ridge(1.0).fit(X, y)
        return [model.predict(o) for o in others]
    model = LogisticRegression(C=3.0, max_iter=400).fit(X, y)
    found = []
    for o in others:
        whole = np.zeros((len(o), schema.classes))
        whole[:, model.classes_.astype(int)] = model.predict_proba(o)
        found.append(whole)
    return found


def make_task(data: Path, name: str, space: Any, shots: int, seed: int) -> tuple[Spec, list[Learnware], float, float]:
    """The user's spec, the owner's two learnwares, and the seconds that one spec of each kind took."""
    schema = Schema.from_file(f"{data / 'tasks.json'}#{name}")
    train = read_examples(data / f"{name}.train.jsonl.gz", schema=schema)
    test = read_examples(data / f"{name}.test.jsonl.gz", schema=schema)
    generator = np.random.Generator(np.random.Philox(key=[seed, 1]))
    chosen, rest = few_shot(train, schema, shots, seed)
    rest = generator.permutation(rest)
    # The owner's spec is made on data that the model was not fitted on, where there is enough of it
    held_out = rest[:OWNER_EXAMPLES]
    fitted = rest[OWNER_EXAMPLES : OWNER_EXAMPLES + OWNER_TRAINING]
    if len(fitted) < len(held_out):
        half = len(rest) // 2
        held_out, fitted = rest[:half], rest[half:]
    owner, fit, tested = train.take(held_out), train.take(fitted), test.take(generator.permutation(len(test))[:TEST])
    start = time.perf_counter()
    task = make_spec(train.take(chosen), schema, space=space)
    task_seconds = time.perf_counter() - start
    X, Xo, Xt = (pair_features(space, list(e.inputs)) for e in (fit, owner, tested))
    assert fit.targets is not None
    assert tested.targets is not None
    learnwares, model_seconds = [], 0.0
    for kind in ("well-trained", "shuffled"):
        y = fit.targets if kind == "well-trained" else generator.permutation(fit.targets)
        on_owner, on_test = fit_predict(schema, X, y, [Xo, Xt])
        start = time.perf_counter()
        spec = make_spec(Examples(owner.inputs, source=name), schema, space=space, predictions=on_owner)
        model_seconds += (time.perf_counter() - start) / 2
        learnwares.append(Learnware(f"{name}/{kind}", spec, score(schema, on_test, tested.targets)))
    return task, learnwares, task_seconds, model_seconds


def own(name: str, other: str) -> bool:
    """Whether learnwares of task ``other`` count as the own data set of task ``name``."""
    return name == other or any({name, other} <= s for s in SIBLINGS)


def main() -> None:
    """Run and print; write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--space", default="minilm-l6")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    space = get_space(options.space)
    names = list(json.loads((options.data / "tasks.json").read_text(encoding="utf-8")))
    tasks, learnwares, task_seconds, model_seconds = {}, [], [], []
    for name in names:
        tasks[name], made, t, m = make_task(options.data, name, space, options.shots, options.seed)
        learnwares += made
        task_seconds.append(t)
        model_seconds.append(m)
        print(f"{name:22s} {'  '.join(f'{w.name.split(chr(47))[1]} {w.score:.3f}' for w in made)}", flush=True)
    counts = {"own_first": 0, "well_trained_first": 0, "well_trained_ahead_of_shuffled": 0, "comparable": 0}
    ranking: dict[str, list[list[Any]]] = {}
    for name, spec in tasks.items():
        ranks = rank(
            spec,
            np.stack([w.spec.unit_domain for w in learnwares]),
            np.stack([w.spec.unit_behaviour for w in learnwares]),
            np.array([w.spec.reliability for w in learnwares]),
            [w.name for w in learnwares],
        )
        scores = dict(zip((w.name for w in learnwares), ranks.key.tolist(), strict=True))
        ranked = sorted(scores, key=lambda w: -scores[w])
        ranking[name] = [[w, round(scores[w], 4)] for w in ranked]
        first = ranked[0].split("/")
        counts["own_first"] += own(name, first[0])
        counts["well_trained_first"] += own(name, first[0]) and first[1] == "well-trained"
        good, shuffled = (next(w for w in learnwares if w.name == f"{name}/{k}") for k in ("well-trained", "shuffled"))
        if good.score - shuffled.score >= 0.1:
            counts["comparable"] += 1
            ahead = scores[good.name] > scores[shuffled.name]
            counts["well_trained_ahead_of_shuffled"] += ahead
            if not ahead:
                print(f"{name}: shuffled ahead of well-trained")
        if not own(name, first[0]):
            print(f"{name}: {ranked[0]} first")
    result = {
        "tasks": len(names),
        **counts,
        "seconds_per_task_spec": float(np.median(task_seconds)),
        "seconds_per_model_spec": float(np.median(model_seconds)),
        "shots": options.shots,
        "seed": options.seed,
        "space": options.space,
        "ranking": ranking,
    }
    print({k: v for k, v in result.items() if k != "ranking"})
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
