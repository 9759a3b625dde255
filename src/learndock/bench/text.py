"""The kinds of models that only texts have: a linear SVM on tf-idf, and the helper's network tuned with a head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.bench.learners import Answers, Linear, corrupt, degrade, softmax
from learndock.bench.size import Size
from learndock.data import Examples, Schema
from learndock.data.examples import Input
from learndock.spaces.helper import Progress
from learndock.spaces.space import Space


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


class Network:
    """The helper's own architecture and weights with a linear output layer, all of it tuned."""

    def __init__(self, space: Space, schema: Schema, seed: int) -> None:
        import torch
        from transformers import AutoModel

        torch.manual_seed(seed)
        weights = space.find("model.safetensors")
        assert weights is not None
        self.schema, self.encoder = schema, space.helper.encoder  # type: ignore[attr-defined]
        self.body = AutoModel.from_pretrained(weights.parent)
        width = self.body.config.hidden_size
        self.head = torch.nn.Linear(width, max(schema.classes, 1))

    def forward(self, encoded: list[NDArray[Any]]) -> tuple[Any, Any]:
        """Mean-pooled features ``(n, width)`` and logits."""
        import torch

        batch = self.encoder.pad_batch(encoded)
        ids, mask = torch.from_numpy(batch["ids"]), torch.from_numpy(batch["mask"])
        found = self.body(input_ids=ids, attention_mask=mask).last_hidden_state
        kept = mask[..., None].float()
        features = (found * kept).sum(1) / kept.sum(1)
        return features, self.head(features)

    def tune(self, examples: Examples, epochs: int, seed: int, progress: Progress | None = None) -> Network:
        """Adam, learning rate 5e-5 rising and falling, batches of 16 of similar length, no weight decay."""
        import torch

        assert examples.targets is not None
        encoded = self.encoder(list(examples.inputs))
        parameters = [*self.body.parameters(), *self.head.parameters()]
        optimiser = torch.optim.Adam(
            [{"params": self.body.parameters(), "lr": 5e-5}, {"params": self.head.parameters(), "lr": 1e-3}]
        )
        steps = math.ceil(len(encoded) / 16) * epochs
        warm = max(steps // 10, 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda s: min((s + 1) / warm, (steps - s) / max(steps - warm, 1))
        )
        generator = np.random.Generator(np.random.Philox(key=[seed, 74]))
        regression = self.schema.type == "regression"
        values = np.asarray(examples.targets, np.float32)
        self.scale = (float(values.mean()), float(values.std()) or 1.0) if regression else (0.0, 1.0)
        done = 0
        self.body.train()
        for _ in range(epochs):
            order = np.argsort([len(e) + generator.random() * 8 for e in encoded])
            pieces = [order[i : i + 16] for i in range(0, len(order), 16)]
            for i in generator.permutation(len(pieces)):
                rows = pieces[int(i)]
                logits = self.forward([encoded[r] for r in rows])[1]
                if regression:
                    wanted = torch.from_numpy((values[rows] - self.scale[0]) / self.scale[1])
                    loss = torch.nn.functional.mse_loss(logits[:, 0], wanted)
                else:
                    wanted = torch.from_numpy(np.asarray(examples.targets, np.int64)[rows])
                    loss = torch.nn.functional.cross_entropy(logits, wanted)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimiser.step()
                schedule.step()
                done += 1
                if progress:
                    progress(done, steps)
        return self

    def answer(self, inputs: Sequence[Input]) -> Answers:
        """Probabilities or values, and the features of unit length as codes."""
        import torch

        from learndock.spaces.helper import batches

        self.body.eval()
        encoded = self.encoder(list(inputs))
        features = np.zeros((len(encoded), self.head.in_features))
        logits = np.zeros((len(encoded), self.head.out_features))
        with torch.inference_mode():
            for rows in batches([len(e) for e in encoded]):
                f, z = self.forward([encoded[i] for i in rows])
                features[rows], logits[rows] = f.numpy(), z.numpy()
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        if self.schema.type == "regression":
            mean, spread = getattr(self, "scale", (0.0, 1.0))
            return Answers(logits[:, 0] * spread + mean, features)
        return Answers(softmax(logits), features)


def train_network(
    space: Space, schema: Schema, examples: Examples, quality: str, size: Size, seed: int,
    progress: Progress | None = None,
) -> Network:  # fmt: skip
    """The network of a quality; ``corrupted`` keeps the helper's weights scrambled and an untrained head."""
    import torch

    network = Network(space, schema, seed)
    if quality == "corrupted":
        with torch.no_grad():
            for p in network.body.parameters():
                # Drawn anew at the size they had: a network that was never trained on anything
                p.copy_(torch.randn_like(p) * p.std() + p.mean() if p.numel() > 1 else p)
        return network
    data = degrade(quality, examples.take(range(min(size.network_fit, len(examples)))), seed)
    # Few examples get as many steps as a quarter of the full data would
    epochs = (
        size.network_epochs if quality != "little" else max(size.network_epochs, size.network_fit // 4 // len(data))
    )
    return network.tune(data, epochs, seed, progress)
