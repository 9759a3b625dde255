"""The owners of the tour: they train real models, of several formats and of graded quality.

Needs the extras ``sklearn`` and ``torch`` (with onnx), as owners of such models would.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data import Examples, Schema
from learndock.progress import Progress
from learndock.spaces import Space
from learndock.spaces.onnx_helper import load_helper


@dataclass(frozen=True)
class Owner:
    """What one owner of the tour does.

    ``quality`` is ``good``, ``little`` (5% of the data), ``noisy`` (60% label noise) or ``broken``
    (all labels shuffled); ``steps`` are those of a transformer's training.
    """

    name: str
    task: str
    format: str
    quality: str = "good"
    steps: int = 50


OWNERS = (
    Owner("east-hospital/tumour-site", "tumour_site", "sklearn"),
    Owner("east-hospital/tumour-nature", "tumour_nature", "sklearn"),
    Owner("village-practice/tumour-site", "tumour_site", "sklearn", "little"),
    Owner("attic/tumour-nature", "tumour_nature", "sklearn", "noisy"),
    Owner("trauma-lab/injury-kind", "injury_kind", "onnx"),
    Owner("trauma-lab/injury-region", "injury_region", "onnx"),
    Owner("attic/injury-region", "injury_region", "onnx", "broken"),
    Owner("web-shop/product-sentiment", "product_sentiment", "transformers"),
    Owner("attic/product-sentiment", "product_sentiment", "sklearn", "noisy"),
    Owner("chat-lab/tweet-sentiment", "tweet_sentiment", "transformers"),
    Owner("chat-lab/tweet-intensity", "tweet_intensity", "sklearn"),
    Owner("attic/tweet-sentiment", "tweet_sentiment", "onnx", "broken"),
    Owner("post-office/digit", "digit", "features"),
    Owner("primary-school/digit-loop", "digit_loop", "features"),
    Owner("attic/digit-loop", "digit_loop", "features", "broken"),
)


def degrade(owner: Owner, train: Examples, seed: int) -> Examples:
    """The owner's training data, as good as the owner's quality."""
    assert train.targets is not None
    generator = np.random.Generator(np.random.Philox(key=[seed, 61]))
    order = generator.permutation(len(train))
    if owner.quality == "little":
        return train.take(order[: max(len(train) // 20, 40)])
    targets = train.targets.copy()
    share = {"noisy": 0.6, "broken": 1.0}.get(owner.quality, 0.0)
    changed = order[: int(share * len(train))]
    targets[changed] = generator.permutation(targets[changed])
    return Examples(train.inputs, targets, train.schema, train.source, train.rows)


def train_model(owner: Owner, train: Examples, space: Space, out: Path, progress: Progress | None) -> None:
    """Train the owner's model and write its folder ``out``, as other tools would have written it."""
    out.mkdir(parents=True)
    if owner.format == "sklearn":
        _train_sklearn(train, out)
    elif owner.format == "features":
        _train_on_features(train, space, out)
    elif owner.format == "onnx":
        _train_onnx(train, space, out)
    else:
        _train_transformers(train, space, owner.steps, out, progress)


def from_scratch(schema: Schema, train: Examples) -> Callable[[list[Any]], NDArray[np.float64]]:
    """What a user without a dock would do: the same few examples, tf-idf (or pixels) and a linear model."""
    if train.kind == "image":
        return _on_pixels(schema, train)
    pipeline = _pipeline(schema.type == "regression")
    pipeline.fit(list(train.inputs), train.targets)
    if schema.type == "regression":
        return lambda inputs: np.asarray(pipeline.predict(inputs), np.float64)

    def predict(inputs: list[Any]) -> NDArray[np.float64]:
        found = np.zeros((len(inputs), schema.classes))
        found[:, pipeline.classes_] = pipeline.predict_proba(inputs)
        return found

    return predict


def _on_pixels(schema: Schema, train: Examples) -> Callable[[list[Any]], NDArray[np.float64]]:
    from sklearn.linear_model import LogisticRegression

    from learndock.spaces.images import ImageEncoder

    encoder = ImageEncoder(8)

    def pixels(inputs: list[Any]) -> NDArray[np.float64]:
        return np.array([p.mean(2).ravel() for p in encoder(inputs)]) / 255

    model = LogisticRegression(C=10.0, max_iter=400).fit(pixels(list(train.inputs)), train.targets)

    def predict(inputs: list[Any]) -> NDArray[np.float64]:
        found = np.zeros((len(inputs), schema.classes))
        found[:, model.classes_] = model.predict_proba(pixels(inputs))
        return found

    return predict


def _pipeline(regression: bool) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline

    estimator = Ridge(1.0) if regression else LogisticRegression(C=10.0, max_iter=400)
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), estimator)


def _train_sklearn(train: Examples, out: Path) -> None:
    import skops.io

    assert train.schema is not None
    regression = train.schema.type == "regression"
    pipeline = _pipeline(regression)
    assert train.targets is not None
    names = train.targets if regression else np.array(train.schema.labels)[train.targets]
    pipeline.fit(list(train.inputs), names)
    skops.io.dump(pipeline, out / "model.skops")


def _train_on_features(train: Examples, space: Space, out: Path) -> None:
    """A linear model on the helper's features of images: ``features.json`` says what it is given."""
    import skops.io
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    assert train.schema is not None
    assert train.targets is not None
    few = train.take(range(min(len(train), 500)))
    names = np.array(train.schema.labels)[few.targets]
    fitted = make_pipeline(LogisticRegression(C=30.0, max_iter=400)).fit(load_helper(space).features(few.inputs), names)
    skops.io.dump(fitted, out / "model.skops")
    (out / "features.json").write_text(json.dumps({"space": space.name}) + "\n", encoding="utf-8")


def _train_onnx(train: Examples, space: Space, out: Path) -> None:
    """A bag of tokens: one weight for each token and class, averaged over the text, as one small graph."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression
    from tokenizers import Tokenizer

    assert train.schema is not None
    data = space.read("tokenizer.json")
    tokenizer = Tokenizer.from_buffer(data)
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    ids = [e.ids for e in tokenizer.encode_batch(list(train.inputs))]
    starts = np.cumsum([0, *(len(i) for i in ids)])
    values = np.concatenate([np.full(len(i), 1 / len(i)) for i in ids])
    counts = csr_matrix((values, np.concatenate(ids), starts), (len(ids), tokenizer.get_vocab_size()))
    model = LogisticRegression(C=300.0, max_iter=400).fit(counts, train.targets)
    weight, bias = model.coef_.T, model.intercept_
    if weight.shape[1] == 1:
        weight, bias = np.hstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    nodes = [
        helper.make_node("Gather", ["weight", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["rows", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "one"], ["length"], keepdims=1),
        helper.make_node("Div", ["sum", "length"], ["mean"]),
        helper.make_node("Add", ["mean", "bias"], ["logits"]),
    ]
    tables = {
        "weight": weight.astype(np.float32),
        "bias": bias.astype(np.float32),
        "last": np.array([2], np.int64),
        "one": np.array([1], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "bag-of-tokens",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["n", "t"]) for n in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(train.schema.labels)])],
        [numpy_helper.from_array(v, k) for k, v in tables.items()],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(whole)
    (out / "model.onnx").write_bytes(whole.SerializeToString())
    (out / "tokenizer.json").write_bytes(data)
    (out / "labels.json").write_text(json.dumps(train.schema.labels) + "\n", encoding="utf-8")  # names the columns


def _train_transformers(train: Examples, space: Space, steps: int, out: Path, progress: Progress | None) -> None:
    """A sentence encoder with a classification head; head and upper layers are tuned, to be quick."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    assert train.schema is not None
    assert train.targets is not None
    weights = space.find("model.safetensors")
    assert weights is not None
    torch.manual_seed(0)
    labels = dict(enumerate(train.schema.labels))
    model = AutoModelForSequenceClassification.from_pretrained(
        weights.parent, num_labels=len(labels), id2label=labels, label2id={v: k for k, v in labels.items()}
    )
    tokenizer = AutoTokenizer.from_pretrained(weights.parent)
    body = model.base_model
    for part in (body.embeddings, *body.encoder.layer[:4]):
        part.requires_grad_(False)
    order = np.random.Generator(np.random.Philox(key=[0, 62])).permutation(len(train))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-4)
    model.train()
    for step in range(steps):
        rows = [int(order[(step * 16 + i) % len(order)]) for i in range(16)]
        batch = tokenizer([train.inputs[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
        loss = model(**batch, labels=torch.from_numpy(train.targets[rows])).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if progress:
            progress(step + 1, steps)
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
