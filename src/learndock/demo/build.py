"""Make the files of the demo: two packed learnwares, and rows that neither of them was trained on.

    python -m learndock.demo.build      (needs the extras sklearn and torch, and the network for the tour's packages)

The texts are the tour's: sentences about products, films and tweets that people rated (vaderSentiment 0.5, MIT), and
diagnoses of injuries (ICD-10-CM, public domain, from simple-icd-10-cm 1.5.0, MIT). Everything is drawn with fixed
seeds, so that anyone who runs this again gets the same rows and the same models.

A model is a bag of words and word pairs: one weight per class for each word of a small vocabulary, and for each pair
of neighbours under a hash. As an ONNX graph that is under 300 kB, and runs on what the core install brings.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data import Examples, Schema
from learndock.package import pack
from learndock.tour.data import load_tour_data

#: Where the files of the demo are in the package.
FILES = Path(__file__).parent / "files"
#: Rows of the user: labelled ones to search and to measure with, and others to predict.
LABELLED, UNLABELLED = 120, 60
#: Texts from which an owner makes the spec and the score on the card; the model is not trained on them.
OWNER_EXAMPLES = 300
#: A word must occur in so many texts to have a weight of its own.
SEEN = 2
#: The hash of a pair of neighbours: (31 * first + second) mod PAIRS.
PAIRS, FACTOR = 8192, 31
PAD, UNKNOWN = 0, 1
SCHEMA = {
    "type": "classification",
    "labels": ["negative", "positive"],
    "descriptions": ["a complaint about a product", "praise for a product"],
}


@dataclass(frozen=True)
class Owner:
    """An owner of the demo: what they call their model, what it is trained on, and what they say about it."""

    name: str
    tasks: tuple[str, ...]
    pairs: int
    description: str


OWNERS = (
    Owner(
        "corner-shop/review-mood",
        ("product_sentiment", "movie_sentiment", "tweet_sentiment"),
        PAIRS,
        "Says whether a sentence about a product is a complaint or praise.",
    ),
    Owner(
        "city-clinic/injury-region",
        ("injury_region",),
        256,
        "Says which part of the body the diagnosis of an injury is about.",
    ),
)


def build(out: Path, cache: Path) -> None:
    """Write the demo's rows and learnwares to ``out``; the tour's texts are kept in ``cache``.

    Raises:
        MissingExtra: scikit-learn or onnx is not installed.
        LearndockError: the texts cannot be fetched.
    """
    tasks = load_tour_data(cache)
    write_rows(tasks["product_sentiment"].test, out)
    (out / "learnwares").mkdir(exist_ok=True)
    for owner in OWNERS:
        first = tasks[owner.tasks[0]]
        with tempfile.TemporaryDirectory() as folder:
            order = np.random.Generator(np.random.Philox(key=[0, 71])).permutation(len(first.train))
            kept = [first.train.take(order[OWNER_EXAMPLES:]), *(tasks[t].train for t in owner.tasks[1:])]
            train_bag(kept, owner.pairs, Path(folder))
            pack(
                folder,
                out / "learnwares" / owner.name.partition("/")[2],
                name=owner.name,
                schema=first.schema,
                examples=first.train.take(order[:OWNER_EXAMPLES]),
                description=owner.description,
                license="Apache-2.0",
            )


def write_rows(test: Examples, out: Path) -> None:
    """Write ``feedback.csv`` (half of its rows positive), ``inbox.csv`` (others, no labels) and ``schema.json``."""
    out.mkdir(parents=True, exist_ok=True)
    targets = np.asarray(test.targets)
    order = np.random.Generator(np.random.Philox(key=[0, 72])).permutation(len(test))
    chosen = [i for c in (0, 1) for i in order[targets[order] == c][: LABELLED // 2]]
    rest = [i for i in order if i not in set(chosen)][:UNLABELLED]
    labels = SCHEMA["labels"]
    _write_csv(out / "feedback.csv", ["text", "label"], [(test.inputs[i], labels[targets[i]]) for i in sorted(chosen)])
    _write_csv(out / "inbox.csv", ["text"], [(test.inputs[i],) for i in rest])
    (out / "schema.json").write_text(json.dumps(SCHEMA, indent=1) + "\n", encoding="utf-8")


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def train_bag(parts: Sequence[Examples], pairs: int, out: Path) -> None:
    """Train a bag of words and pairs on all ``parts``, which share their labels."""
    from sklearn.linear_model import LogisticRegression

    texts = [str(text) for part in parts for text in part.inputs]
    targets = np.concatenate([np.asarray(part.targets) for part in parts])
    schema = parts[0].schema
    assert schema is not None
    tokenizer = write_tokenizer(texts, schema, out)
    ids = [e.ids for e in tokenizer.encode_batch(texts)]
    size = tokenizer.get_vocab_size()
    model = LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced").fit(_counts(ids, size, pairs), targets)
    weight, bias = model.coef_.T, model.intercept_
    if weight.shape[1] == 1:  # two classes have one column: its half and minus its half are their logits
        weight, bias = np.hstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    # What padding and unknown words would add is noise
    weight[[PAD, UNKNOWN]] = 0
    write_graph(weight[:size], weight[size:], bias, out / "model.onnx")


def write_tokenizer(texts: Sequence[str], schema: Schema, out: Path) -> Any:
    """Write ``tokenizer.json`` (lower case, words and punctuation) and ``config.json``; return the tokenizer."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    split, fold = pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer()
    seen = Counter(w for t in texts for w in {w for w, _ in split.pre_tokenize_str(fold.normalize_str(t))})
    words = sorted(w for w, n in seen.items() if n >= SEEN)
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = fold, split
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    names = {str(i): label for i, label in enumerate(schema.labels)}
    (out / "config.json").write_text(json.dumps({"id2label": names}, indent=1) + "\n", encoding="utf-8")
    return tokenizer


def _counts(ids: Sequence[Sequence[int]], size: int, pairs: int) -> Any:
    """How often each word and each hashed pair occurs in each text: sparse ``(n, size + pairs)``."""
    from scipy.sparse import csr_matrix

    rows, columns = [], []
    for row, text in enumerate(ids):
        hashed = [size + (FACTOR * a + b) % pairs for a, b in pairwise(text)]
        columns += [*text, *hashed]
        rows += [row] * (len(text) + len(hashed))
    return csr_matrix((np.ones(len(rows)), (rows, columns)), (len(ids), size + pairs))


def write_graph(words: NDArray[Any], pairs: NDArray[Any], bias: NDArray[Any], path: Path) -> None:
    """Write the graph: logits ``(n, classes)`` of token ids ``(n, t)`` and their mask."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def masked_sum(table: str, ids: str, mask: str, out: str) -> list[Any]:
        return [
            helper.make_node("Gather", [table, ids], [f"{out}-rows"]),
            helper.make_node("Unsqueeze", [mask, "last"], [f"{out}-mask"]),
            helper.make_node("Mul", [f"{out}-rows", f"{out}-mask"], [f"{out}-kept"]),
            helper.make_node("ReduceSum", [f"{out}-kept", "one"], [out], keepdims=0),
        ]

    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["input_ids", "zero", "minus-one", "one"], ["first"]),
        helper.make_node("Slice", ["input_ids", "one", "end", "one"], ["second"]),
        helper.make_node("Slice", ["mask", "one", "end", "one"], ["pair-mask"]),
        helper.make_node("Mul", ["first", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "second"], ["joined"]),
        helper.make_node("Mod", ["joined", "buckets"], ["hashed"]),
        *masked_sum("words", "input_ids", "mask", "of-words"),
        *masked_sum("pairs", "hashed", "pair-mask", "of-pairs"),
        helper.make_node("Add", ["of-words", "of-pairs"], ["both"]),
        helper.make_node("Add", ["both", "bias"], ["logits"]),
    ]
    whole = [("zero", 0), ("one", 1), ("minus-one", -1), ("last", 2), ("end", 1 << 30)]
    tables = {name: np.array([value], np.int64) for name, value in whole}
    tables |= {"factor": np.array(FACTOR, np.int64), "buckets": np.array(len(pairs), np.int64)}
    weights = {"words": words, "pairs": pairs, "bias": bias}
    initializers = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    initializers += [numpy_helper.from_array(v, k) for k, v in tables.items()]
    graph = helper.make_graph(
        nodes,
        "bag-of-words-and-pairs",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["n", "t"]) for n in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(bias)])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    build(FILES, Path(sys.argv[1] if len(sys.argv) > 1 else "out/tour/data"))
