"""Models of several kinds and of graded quality, as owners train them.

A learner is fitted on a task's examples and then answers any inputs. Its *outputs* are ``(n, classes)``
probabilities or ``(n,)`` values; its *codes* ``(n, d)`` are what a read-out for another task may use: the features of
a network, the log-probabilities of a model that has nothing else to show.

    good        all the data
    little      5% of it
    noisy30/60  that share of labels drawn at random from the task's labels
    shuffled    all of them
    corrupted   never trained: random weights
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from learndock.data import Examples, Schema
from learndock.data.examples import Input
from learndock.data.images import Image
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.space import Space

Float = NDArray[np.float64]

#: 5% of a small data set is too little to train on.
LEAST = 16


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of n inputs: ``outputs`` and ``codes`` as above, and for an encoder its own ``descriptions``.

    ``descriptions`` gives the encoder's features of label descriptions, or is None where a model has no text side.
    """

    outputs: Float
    codes: Float


class Model(Protocol):
    """A trained model."""

    def answer(self, inputs: Sequence[Input]) -> Answers:
        """Outputs and codes of the inputs."""
        ...


@runtime_checkable
class Tuned(Protocol):
    """A model that was tuned from weights that others know, and tells what became of them."""

    def changed(self) -> dict[str, NDArray[Any]]:
        """Vectors to compare such models by."""
        ...


class Encoding(Protocol):
    """The frozen features that a model on embeddings reads: ``(n, d)``."""

    def __call__(self, inputs: Sequence[Input]) -> Float:
        """Features of the inputs."""
        ...


def degrade(quality: str, examples: Examples, seed: int) -> Examples:
    """The owner's training data at a quality."""
    assert examples.targets is not None
    generator = np.random.Generator(np.random.Philox(key=[seed, 72]))
    order = generator.permutation(len(examples))
    if quality == "little":
        return examples.take(_of_every_class(examples, order, max(len(examples) // 20, LEAST)))
    share = {"noisy30": 0.3, "noisy60": 0.6, "shuffled": 1.0}.get(quality, 0.0)
    targets = examples.targets.copy()
    changed = order[: int(share * len(examples))]
    targets[changed] = generator.choice(examples.targets, len(changed))
    return Examples(examples.inputs, targets, examples.schema, examples.source)


def _of_every_class(examples: Examples, order: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """The first ``count`` of ``order``, and one of any class that they lack: a model must know all its labels."""
    assert examples.targets is not None
    chosen = list(order[:count])
    if examples.schema is not None and examples.schema.type == "classification":
        for label in np.unique(examples.targets):
            if not (examples.targets[chosen] == label).any():
                chosen.append(int(order[(examples.targets[order] == label).argmax()]))
    return np.array(chosen)


class Linear:
    """A linear model over any ``(n, d)`` encoding: logistic regression or SVM, ridge for values."""

    def __init__(self, schema: Schema, encode: Encoding, estimator: Any) -> None:
        self.schema, self.encode, self.estimator = schema, encode, estimator

    def answer(self, inputs: Sequence[Input]) -> Answers:
        """Outputs, and as codes their logarithms or the values."""
        return answer_linear(self.schema, self.estimator, self.encode(inputs))


def answer_linear(schema: Schema, estimator: Any, X: Any) -> Answers:
    """What a fitted estimator says of encoded inputs."""
    if schema.type == "regression":
        values = np.asarray(estimator.predict(X), np.float64)
        return Answers(values, values[:, None])
    found = np.full((X.shape[0], schema.classes), 1e-6)
    columns = np.asarray(estimator.classes_, int)
    if hasattr(estimator, "predict_proba"):
        found[:, columns] += estimator.predict_proba(X)
    else:
        margins = np.asarray(estimator.decision_function(X))
        margins = np.stack([-margins, margins], 1) / 2 if margins.ndim == 1 else margins
        found[:, columns] += softmax(2 * margins)
    found /= found.sum(1, keepdims=True)
    return Answers(found, np.log(found))


def softmax(logits: Float) -> Float:
    """Rows that sum to one."""
    weights = np.exp(logits - logits.max(1, keepdims=True))
    found: Float = weights / weights.sum(1, keepdims=True)
    return found


def corrupt(schema: Schema, estimator: Any, seed: int) -> Any:
    """A fitted linear estimator with its weights drawn at random, of the same size: no training at all."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 73]))
    coefficients = np.asarray(estimator.coef_)
    estimator.coef_ = generator.standard_normal(coefficients.shape) * coefficients.std()
    estimator.intercept_ = np.zeros_like(np.asarray(estimator.intercept_, np.float64))
    return estimator


class Features:
    """The helper's frozen features; pairs as u, v, |u - v|, u * v. Remembers what it has encoded."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.known: dict[Any, NDArray[np.float32]] = {}

    def remember(self, inputs: Sequence[Input], features: NDArray[np.float32]) -> None:
        """Take features that were computed elsewhere."""
        self.known.update(zip((_key(i) for i in inputs), features, strict=True))

    def knows(self, inputs: Sequence[Input]) -> bool:
        """Whether all of them were encoded before."""
        return all(_key(i) in self.known for i in inputs)

    def plain(self, inputs: Sequence[Input]) -> NDArray[np.float32]:
        """One feature an input, ``(n, width)``."""
        new = list({_key(i): i for i in inputs if _key(i) not in self.known}.values())
        if new:
            self.remember(new, load_helper(self.space).features(new))
        return np.stack([self.known[_key(i)] for i in inputs])

    def __call__(self, inputs: Sequence[Input]) -> Float:
        """What a linear model reads, ``(n, d)``."""
        if not isinstance(inputs[0], tuple):
            return self.plain(inputs).astype(np.float64)
        u, v = (self.plain([pair[side] for pair in inputs]) for side in (0, 1))
        return np.hstack([u, v, np.abs(u - v), u * v]).astype(np.float64)


def _key(item: Input) -> Any:
    return item if isinstance(item, str | tuple | Image) else id(item)


def train_logistic(schema: Schema, encode: Encoding, examples: Examples, quality: str, seed: int) -> Linear:
    """Logistic regression (ridge for values) on frozen features."""
    from sklearn.linear_model import LogisticRegression, Ridge

    data = degrade(quality, examples, seed)
    estimator = Ridge(1.0) if schema.type == "regression" else LogisticRegression(C=3.0, max_iter=400)
    estimator.fit(encode(list(data.inputs)), data.targets)
    return Linear(schema, encode, corrupt(schema, estimator, seed) if quality == "corrupted" else estimator)
