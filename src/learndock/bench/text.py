"""A kind of model that only texts have: a linear SVM on tf-idf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from learndock.bench.learners import Linear, corrupt, degrade
from learndock.data import Examples, Schema
from learndock.data.examples import Input


class TfIdf:
    """Words and pairs of words, weighted; the two sides of a pair are counted apart, then what they share."""

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, max_features=50_000)

    def fit(self, inputs: Sequence[Input]) -> TfIdf:
        """Learn the vocabulary."""
        self.words.fit([side for i in inputs for side in (i if isinstance(i, tuple) else (i,))])
        return self

    def __call__(self, inputs: Sequence[Input]) -> Any:
        """Sparse ``(n, d)``; pairs ``(n, 2 d)``: product and absolute difference."""
        from scipy.sparse import hstack

        if not isinstance(inputs[0], tuple):
            return self.words.transform(list(inputs))
        u, v = (self.words.transform([pair[side] for pair in inputs]) for side in (0, 1))
        return hstack([u.multiply(v), abs(u - v)]).tocsr()


def train_tfidf(schema: Schema, examples: Examples, quality: str, seed: int) -> Linear:
    """A linear SVM on tf-idf (ridge for values)."""
    from sklearn.linear_model import Ridge
    from sklearn.svm import LinearSVC

    data = degrade(quality, examples, seed)
    encode = TfIdf().fit(list(data.inputs))
    estimator = Ridge(1.0) if schema.type == "regression" else LinearSVC(C=1.0)
    estimator.fit(encode(list(data.inputs)), data.targets)
    return Linear(schema, encode, corrupt(schema, estimator, seed) if quality == "corrupted" else estimator)
