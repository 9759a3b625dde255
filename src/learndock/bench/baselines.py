"""What others do: methods from the literature that choose among learnwares, behind one signature.

``choose(bench, task, seed, places)`` gives one number for each of ``bench.entries[place]``, the larger the more
fitting; equal numbers share their place. Methods that compare specifications (``centroid``, ``rkme``, ``card``) see
of a learnware what its owner could publish. Methods with ``sees_data`` need the user's examples themselves and every
model's answers to them; the answers are read from the bench, so that a query's time is without running the models.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from learndock.bench.pool import Bench, Entry, grade, read_out
from learndock.data.metrics import score, sign
from learndock.data.schema import Schema
from learndock.spec.onepass import indicators

Float = NDArray[np.float64]
Choose = Callable[[Bench, str, int, Sequence[int]], Float]
Made = TypeVar("Made")

#: Points of a reduced set; with labels, of each label's.
POINTS = 10
#: Values are cut into this many classes where a method knows classes only.
BINS = 5
FOLDS = 4
#: Weight of the log-likelihood that orders equal few-shot scores: smaller than any step of a score.
TIE_BREAK = 1e-7

#: What owners would have made once, by bench: never part of a query's time after the first.
_KEPT: WeakKeyDictionary[Bench, dict[Hashable, Any]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Baseline:
    """A method of others. ``sees_data``: it needs the user's examples and runs every model on them."""

    name: str
    choose: Choose
    sees_data: bool
    note: str
    words: bool = False


def once(bench: Bench, key: Hashable, make: Callable[[], Made]) -> Made:
    """What ``make`` gives, made once for a bench and kept while it lives."""
    kept = _KEPT.setdefault(bench, {})
    if key not in kept:
        kept[key] = make()
    found: Made = kept[key]
    return found


def _by_task(bench: Bench, places: Sequence[int], value: Callable[[str], float]) -> Float:
    """A number that all learnwares of one task share."""
    names = [bench.entries[p].task for p in places]
    values = {name: value(name) for name in dict.fromkeys(names)}
    return np.array([values[name] for name in names], np.float64)


def _user_features(bench: Bench, task: str, seed: int) -> Float:
    """The helper's features of the user's few examples, ``(n, width)``; a pair is read as one text."""
    places, _ = bench.drawn(task, seed)
    return bench.user[task].features[bench.rows[task][places]].astype(np.float64)


def cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Cosine of two vectors, 0 where one has no length."""
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size > 0 else 0.0


def cosines(rows: Sequence[NDArray[Any]], query: NDArray[Any]) -> Float:
    """Cosine of each of ``rows`` and a query of the same length."""
    return np.array([cosine(r, query) for r in rows], np.float64)


# --- inputs and words ----------------------------------------------------------------------------------------------


def centroid(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """Cosine of the mean frozen features of the user's and the owner's inputs; learnwares of one task tie."""
    user = _user_features(bench, task, seed).mean(0)

    def value(name: str) -> float:
        return cosine(user, once(bench, ("mean", name), lambda: bench.owner[name].features.mean(0, np.float64)))

    return _by_task(bench, places, value)


def card(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """Cosine of the helper's features of the two card texts; learnwares of one task tie."""

    def read(name: str) -> NDArray[Any]:
        found: NDArray[Any] = bench.features.plain([bench.tasks[name].card])[0]
        return found

    user = read(task)
    return _by_task(bench, places, lambda name: cosine(user, read(name)))


def best_single(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """Mean score of each learnware over all other tasks and all draws: the same order whatever the user has.

    It never reads the score on ``task``; where there is no other task all are equal. A learnware's own task is among
    the others unless it is the user's.
    """
    others = [
        sign(bench.tasks[t].schema.metric) * found[:, list(places)].mean(0)
        for t, found in bench.scores.items()
        if t != task
    ]
    return np.mean(others, axis=0, dtype=np.float64) if others else np.zeros(len(places))


# --- reduced kernel mean embeddings --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Embedding:
    """A weighted sample that stands for a distribution: sum_j weights_j k(points_j, .) (x) sum_c shares_jc l(c, .).

    ``points`` ``(m, width)``, ``weights`` ``(m,)``; ``shares`` ``(m, labels)`` is None without labels.
    """

    points: Float
    weights: Float
    shares: Float | None = None


def gaussian(one: Float, other: Float, gamma: float) -> Float:
    """exp(-gamma |x - y|^2), ``(n, m)``."""
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    found: Float = np.exp(-gamma * np.maximum(squares, 0))
    return found


def median_gamma(X: Float, most: int = 1000) -> float:
    """1 / (2 s^2) with s the median distance of two points (median heuristic, Gretton et al. 2012)."""
    X = X[np.linspace(0, len(X) - 1, min(most, len(X))).astype(int)]
    squares = ((X**2).sum(1)[:, None] + (X**2).sum(1)[None] - 2 * X @ X.T)[np.triu_indices(len(X), 1)]
    squares = squares[squares > 1e-12]
    return float(1 / (2 * np.median(squares))) if len(squares) else 1.0


def reduce_set(X: Float, gamma: float, count: int = POINTS) -> Embedding:
    """At most ``count`` points and weights whose embedding is closest to that of ``X``.

    Wu, Xu, Liu and Zhou, "Model reuse with reduced kernel mean embedding specification" (TKDE 2023), Zhou and Tan,
    "Learnware: small models do big" (2024): points from k-means, weights by the closed form
    beta = K_zz^-1 K_zx 1/n. Their further gradient steps on the points are left out.
    """
    from sklearn.cluster import KMeans

    distinct = np.unique(X, axis=0)
    if len(distinct) <= count:
        points = distinct
    else:
        points = np.asarray(KMeans(count, n_init=2, random_state=0).fit(X).cluster_centers_, np.float64)
    inside = gaussian(points, points, gamma) + 1e-6 * np.eye(len(points))
    return Embedding(points, np.linalg.solve(inside, gaussian(points, X, gamma).mean(1)))


def product(one: Embedding, other: Embedding, gamma: float, labels: Float | None = None) -> float:
    """Inner product of two embeddings; ``labels`` is the kernel between the labels of one and of the other."""
    kernel = gaussian(one.points, other.points, gamma)
    if labels is not None:
        assert one.shares is not None
        assert other.shares is not None
        kernel = kernel * (one.shares @ labels @ other.shares.T)
    return float(one.weights @ kernel @ other.weights)


def _gamma(bench: Bench) -> float:
    """One kernel for everybody, as a market must have it: the median over all owners' inputs."""
    whole = [r.features[:: max(len(r.features) // 64, 1)] for r in bench.owner.values()]
    return once(bench, "gamma", lambda: median_gamma(np.vstack(whole).astype(np.float64)))


def rkme(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """Minus the MMD between the user's sample and each owner's reduced set of inputs (Wu et al. 2021/2023, RKME).

    The user's few examples are taken as they are, not reduced. Learnwares of one task tie.
    """
    gamma = _gamma(bench)
    X = _user_features(bench, task, seed)
    user = Embedding(X, np.full(len(X), 1 / len(X)))
    length = product(user, user, gamma)

    def make(name: str) -> tuple[Embedding, float]:
        found = reduce_set(bench.owner[name].features.astype(np.float64), gamma)
        return found, product(found, found, gamma)

    def value(name: str) -> float:
        owner, own = once(bench, ("rkme", name), lambda: make(name))
        return -float(np.sqrt(max(length + own - 2 * product(user, owner, gamma), 0)))

    return _by_task(bench, places, value)


def rkme_labels(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """Minus the MMD between *joint* embeddings: the user's inputs and labels, a model's inputs and pseudo-labels.

    The idea is that of Tan, Liu, Tan and Zhou, "Handling learnwares from heterogeneous feature spaces with explicit
    label exploitation" (NeurIPS 2024): reduced points carry the model's pseudo-labels, so that conditional
    distributions are compared too. As there, a set is reduced label by label (at most ``POINTS`` for each, values in
    ``BINS`` classes). All labels weigh the same on both sides: a user who draws some of each knows nothing of their
    shares, and those of the models would decide. Label sets here differ from task to task, so labels are compared by
    a second Gaussian kernel, on the helper's features of their descriptions, and the product of kernels embeds the
    joint distribution (Song et al. 2009): our generalisation to different label sets, not a published variant to the
    letter.
    A pool keeps no answers to the owner's spec examples: the owner's other unlabelled inputs, ``task.test`` of the
    learnware's own task, stand for them. Their true labels are not read.
    """
    gamma, label_gamma = _gamma(bench), _label_gamma(bench)
    found = bench.tasks[task]
    _, targets = bench.drawn(task, seed)
    X = _user_features(bench, task, seed)
    user = Embedding(X, _balanced(found.schema, targets), indicators(found.schema, targets))
    mine = _descriptions(bench, found.schema)
    length = product(user, user, gamma, gaussian(mine, mine, label_gamma))
    distances = []
    for entry in (bench.entries[p] for p in places):
        theirs = _descriptions(bench, bench.tasks[entry.task].schema)
        model, own = once(bench, ("labels", entry.name), lambda e=entry: _labelled(bench, e))  # type: ignore[misc]
        both = product(user, model, gamma, gaussian(mine, theirs, label_gamma))
        distances.append(-np.sqrt(max(length + own - 2 * both, 0)))
    return np.array(distances, np.float64)


def _balanced(schema: Schema, said: NDArray[Any]) -> Float:
    """Weights ``(n,)`` with the same total for every label; a label that is never predicted leaves its part out."""
    if schema.type == "regression":
        return np.full(len(said), 1 / len(said))
    found: Float = 1 / (schema.classes * np.bincount(said.astype(int), minlength=schema.classes)[said.astype(int)])
    return found


def _descriptions(bench: Bench, schema: Schema) -> Float:
    """Features of what the labels mean; a scale without named ends has these two."""
    texts = schema.descriptions or ("a low value", "a high value")
    return bench.features.plain(list(texts)).astype(np.float64)


def _label_gamma(bench: Bench) -> float:
    return once(
        bench,
        "label gamma",
        lambda: median_gamma(np.vstack([_descriptions(bench, t.schema) for t in bench.tasks.values()])),
    )


def _labelled(bench: Bench, entry: Entry) -> tuple[Embedding, float]:
    """A model's reduced joint embedding and its squared length."""
    gamma, schema = _gamma(bench), bench.tasks[entry.task].schema
    outputs = entry.asked[entry.task, "test"].outputs[: bench.size.spec]
    inputs = list(bench.tasks[entry.task].test.inputs[: len(outputs)])
    X = once(bench, ("inputs", entry.task), lambda: bench.features.plain(inputs).astype(np.float64))
    said = outputs.argmax(1) if schema.type == "classification" else outputs
    shares, groups, even = indicators(schema, said), classes(outputs), _balanced(schema, said)
    pieces = []
    for group in np.unique(groups):
        rows = groups == group
        reduced = reduce_set(X[rows], gamma)
        pieces.append(
            (
                reduced.points,
                reduced.weights * even[rows].sum(),
                np.tile(shares[rows].mean(0), (len(reduced.points), 1)),
            )
        )
    points, weights, kept = (np.concatenate(part) for part in zip(*pieces, strict=True))
    found = Embedding(points, weights, kept)
    descriptions = _descriptions(bench, schema)
    return found, product(found, found, gamma, gaussian(descriptions, descriptions, _label_gamma(bench)))


# --- transferability: models are run on the user's examples --------------------------------------------------------


def classes(answers: NDArray[Any]) -> NDArray[np.int64]:
    """Hard classes ``(n,)``: of probabilities the largest, of values the fifth (``BINS`` quantiles) they fall into."""
    if answers.ndim == 2:
        best: NDArray[np.int64] = answers.argmax(1).astype(np.int64)
        return best
    edges = np.quantile(answers, np.arange(1, BINS) / BINS)
    found: NDArray[np.int64] = np.searchsorted(edges, answers, side="right").astype(np.int64)
    return found


def log_evidence(F: Float, y: Float, steps: int = 200) -> float:
    """log p(y | F) / n of Bayesian linear regression, largest over the precisions alpha of weights and beta of noise.

    You, Liu, Wang and Long, "LogME: practical assessment of pre-trained models for transfer learning" (ICML 2021),
    equation 2; fixed-point steps alpha = gamma / m'm, beta = (n - gamma) / |Fm - y|^2 from one singular value
    decomposition. ``F`` ``(n, d)`` has no column of ones added, as in the paper.
    """
    n, d = len(F), F.shape[1]
    U, s, _ = np.linalg.svd(F, full_matrices=False)
    kept = s > 1e-10 * max(s[0], 1e-300)
    U, squares = U[:, kept], s[kept] ** 2
    z2 = (U.T @ y) ** 2
    outside = max(float(y @ y - z2.sum()), 0.0)
    alpha = beta = 1.0
    best = float("-inf")
    for _ in range(steps):
        shrunk = alpha + beta * squares
        residual = float((z2 * (alpha / shrunk) ** 2).sum()) + outside
        length = float((beta**2 * squares * z2 / shrunk**2).sum())
        told = n * np.log(beta / (2 * np.pi)) + d * np.log(alpha) - beta * residual - alpha * length
        told -= np.log(shrunk).sum() + (d - len(squares)) * np.log(alpha)
        if told / 2 - best < 1e-9 * n and best > float("-inf"):
            break
        best = float(told / 2)
        gamma = float((beta * squares / shrunk).sum())
        alpha = float(np.clip(gamma / max(length, 1e-12), 1e-8, 1e8))
        beta = float(np.clip((n - gamma) / max(residual, 1e-12), 1e-8, 1e8))
    return best / n


def leep_score(outputs: Float, labels: NDArray[np.int64]) -> float:
    """Log expected empirical prediction (Nguyen, Hassner, Seeger and Archambeau, ICML 2020, equation 2).

    ``outputs`` ``(n, source classes)`` are probabilities. P(y | z) is counted from them and the user's labels; the
    score is the mean of log sum_z P(y_i | z) outputs_iz, at most 0.
    """
    known, place = np.unique(labels, return_inverse=True)
    joint = np.eye(len(known))[place].T @ outputs / len(labels)
    mass = joint.sum(0)
    given = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
    return float(np.mean(np.log(np.maximum((given[place] * outputs).sum(1), 1e-12))))


def nce_score(said: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Negative conditional entropy -H(labels | said) (Tran, Nguyen and Hassner, ICCV 2019), from hard predictions.

    It is LEEP's score where every prediction is sure, as sum_i log P(y_i | z_i) / n is -H(y | z).
    """
    _, place = np.unique(said, return_inverse=True)
    return leep_score(np.eye(int(place.max()) + 1)[place], labels)


def _asked(bench: Bench, task: str, seed: int, places: Sequence[int], worth: Callable[[Float, Float], float]) -> Float:
    """``worth(outputs, codes)`` of every model's answers to the user's examples."""
    rows, _ = bench.drawn(task, seed)
    answers = (bench.entries[p].asked[task, "user"] for p in places)
    return np.array([worth(a.outputs[rows], a.codes[rows]) for a in answers], np.float64)


def logme(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """LogME of a model's codes: mean over the user's labels, one against the rest; for values their own.

    Codes are read as they are. Those of models that have no features are log-probabilities.
    """
    _, targets = bench.drawn(task, seed)
    if bench.tasks[task].schema.type == "regression":
        columns = [np.asarray(targets, np.float64)]
    else:
        columns = [(targets == label).astype(np.float64) for label in np.unique(targets)]
    return _asked(bench, task, seed, places, lambda _, F: float(np.mean([log_evidence(F, y) for y in columns])))


def leep(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """LEEP of a model's outputs; values, the model's or the user's, are cut into fifths of the user's examples."""
    labels = _labels(bench, task, seed)

    def worth(outputs: Float, _: Float) -> float:
        return leep_score(outputs if outputs.ndim == 2 else np.eye(BINS)[classes(outputs)], labels)

    return _asked(bench, task, seed, places, worth)


def nce(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """Negative conditional entropy of the user's labels given a model's hard outputs; values are cut into fifths."""
    labels = _labels(bench, task, seed)
    return _asked(bench, task, seed, places, lambda outputs, _: nce_score(classes(outputs), labels))


def _labels(bench: Bench, task: str, seed: int) -> NDArray[np.int64]:
    _, targets = bench.drawn(task, seed)
    return classes(targets) if bench.tasks[task].schema.type == "regression" else targets.astype(np.int64)


def direct(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """Score every model on the user's own examples, as ``pool.worth`` defines a score.

    Own labels: the outputs. An encoder: its features under the task's descriptions. Otherwise a read-out,
    cross-validated over the few examples (``FOLDS`` folds, each with its part of every label). Equal scores are
    ordered by the mean log-likelihood of the outputs; a model that tells no probabilities counts there as one that
    knows nothing."""
    schema = bench.tasks[task].schema
    rows, targets = bench.drawn(task, seed)

    def value(entry: Entry) -> float:
        asked = entry.asked[task, "user"]
        if bench.answers(task, entry):
            outputs = asked.outputs[rows]
            return sign(schema.metric) * grade(schema, outputs, targets) + TIE_BREAK * _likelihood(
                schema, outputs, targets
            )
        codes = asked.codes[rows]
        if task in entry.descriptions and schema.type == "classification":
            said: NDArray[Any] = (codes @ entry.descriptions[task].T).argmax(1)
        else:
            said = cross_validated(schema, codes, targets, seed)
        return sign(schema.metric) * score(schema, said, targets) + TIE_BREAK * _likelihood(schema, None, targets)

    return np.array([value(bench.entries[p]) for p in places], np.float64)


def _likelihood(schema: Schema, outputs: Float | None, targets: NDArray[Any]) -> float:
    """Mean log-likelihood of the labels, 0 for values."""
    if schema.type != "classification":
        return 0.0
    if outputs is None:
        return -float(np.log(schema.classes))
    return float(np.log(np.maximum(outputs[np.arange(len(targets)), targets.astype(int)], 1e-12)).mean())


def cross_validated(schema: Schema, X: Float, y: NDArray[Any], seed: int) -> NDArray[Any]:
    """Predictions for each example by a read-out that was fitted without its fold."""
    shuffled = np.random.Generator(np.random.Philox(key=[seed, 76])).permutation(len(y))
    # Dealt out in order of label or value: every fold has its part of each
    fold = np.empty(len(y), int)
    fold[shuffled[np.argsort(y[shuffled], kind="stable")]] = np.arange(len(y)) % min(FOLDS, len(y))
    said = np.zeros(len(y), np.asarray(y).dtype)
    for f in np.unique(fold):
        left = fold == f
        known = y[~left]
        alike = len(np.unique(known)) < 2
        said[left] = known[0] if alike else read_out(schema, X[~left], known, X[left])
    return said


BASELINES: Mapping[str, Baseline] = {
    b.name: b
    for b in (
        Baseline("best_single", best_single, False, "best mean score over all other tasks"),
        Baseline("card", card, False, "cosine of card texts", words=True),
        Baseline("centroid", centroid, False, "cosine of mean features of inputs"),
        Baseline("rkme", rkme, False, f"reduced kernel mean embedding of inputs, {POINTS} points"),
        Baseline(
            "rkme_labels",
            rkme_labels,
            False,
            f"the same with the model's pseudo-labels, {POINTS} points a label",
            words=True,
        ),
        Baseline("logme", logme, True, "evidence of the user's labels given a model's codes"),
        Baseline("leep", leep, True, "log expected empirical prediction from a model's outputs"),
        Baseline("nce", nce, True, "negative conditional entropy given a model's hard outputs"),
        Baseline("direct", direct, True, "every model scored on the user's examples"),
    )
}
