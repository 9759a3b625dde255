"""Tiny real models for tests: each builder writes a model folder as its library would.

The language is a dozen words. ``good``, ``fine`` and ``great`` make a text positive, ``bad``, ``awful`` and
``poor`` negative; the rest means nothing.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learndock.data.examples import Examples
from learndock.data.schema import Schema

GOOD, BAD = ("good", "fine", "great"), ("bad", "awful", "poor")
REST = ("the", "film", "food", "day", "was", "very", "a", "and")
WORDS = (*GOOD, *BAD, *REST)
SENTIMENT = Schema("classification", ("negative", "positive"), ("a bad review", "a good review"), "accuracy")
SCALE = Schema("regression", ("0", "5"), ("bad", "good"), "pearson_spearman")


def texts(n: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """``n`` texts of 3 to 9 words, and whether each is positive (0 or 1), half of them."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(n):
        words = list(random.choice(REST, size=int(random.integers(2, 8))))
        words.insert(int(random.integers(0, len(words))), str(random.choice(GOOD if i % 2 else BAD)))
        found.append(" ".join(words))
    return found, np.arange(n) % 2


def sentiment(n: int, seed: int = 0) -> Examples:
    """``n`` labelled examples."""
    inputs, targets = texts(n, seed)
    return Examples(inputs, targets.astype(np.int64), SENTIMENT, "sentiment.jsonl", rows=range(1, n + 1))


@functools.cache
def space() -> Any:
    """The default space, opened once for all tests of a run."""
    from learndock.spaces import get_space

    return get_space()


# --- tokens ------------------------------------------------------------------------------------------------


def write_tokenizer(folder: Path, *, max_length: int = 32) -> int:
    """A WordPiece tokenizer in ``tokenizer.json``, BERT's way; returns the number of words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    # A fixed vocabulary: the library's trainer orders equals differently from run to run.
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *"abcdefghijklmnopqrstuvwxyz.,"]
    vocabulary = {entry: index for index, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": max_length,
                "pad_token": "[PAD]",
                "unk_token": "[UNK]",
                "cls_token": "[CLS]",
                "sep_token": "[SEP]",
                "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
            }
        )
    )
    return int(tokenizer.get_vocab_size())


# --- transformers and PEFT ---------------------------------------------------------------------------------


def write_bert(folder: Path, labels: Sequence[str] = SENTIMENT.labels, *, seed: int = 0) -> Path:
    """A random two-layer BERT classifier of width 32; one label makes it a regressor."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from learndock.package.formats._quiet import quiet

    words = write_tokenizer(folder)
    names = dict(enumerate(labels))
    config = BertConfig(
        vocab_size=words,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
        id2label=names,
        label2id={v: k for k, v in names.items()},
    )
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def write_adapter(folder: Path, base: Path, *, outputs: int = 2, seed: int = 0, **settings: Any) -> Path:
    """A LoRA adapter of rank 4 on ``base``, with B matrices and an output layer that are not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    from learndock.package.formats._quiet import quiet

    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        network = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=outputs, ignore_mismatched_sizes=True
        )
        wanted = {"task_type": "SEQ_CLS", "r": 4, "target_modules": ["query", "value"], **settings}
        adapted = get_peft_model(network, LoraConfig(**wanted))
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0.0, 0.3)
        adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return folder


# --- scikit-learn ------------------------------------------------------------------------------------------


def fitted_pipeline(estimator: Any = None, *, names: bool = True, n: int = 60, seed: int = 1) -> Any:
    """A fitted text pipeline; ``names=False`` fits class indices in place of label names."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    inputs, targets = texts(n, seed)
    wanted = np.array(SENTIMENT.labels)[targets] if names else targets
    return make_pipeline(TfidfVectorizer(), LogisticRegression() if estimator is None else estimator).fit(
        inputs, wanted
    )


def write_sklearn(folder: Path, pipeline: Any = None) -> Path:
    """``model.skops`` of a pipeline."""
    from skops.io import dump

    folder.mkdir(parents=True, exist_ok=True)
    dump(fitted_pipeline() if pipeline is None else pipeline, folder / "model.skops")
    return folder


# --- MLflow ------------------------------------------------------------------------------------------------


#: What MLflow 3.17 writes, less what nothing reads.
MLMODEL = """artifact_path: model
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.{flavor}
    python_version: 3.11.7
  {flavor}:
    code: null
    {settings}
is_signature_from_type_hint: false
metadata: {metadata}
mlflow_version: 3.17.2
model_id: m-f671cf03204e418eb4581ce87115cf46
signature:
  inputs: '{inputs}'
  outputs: '[{{"type": "string", "required": true}}]'
  params: null
"""
SKOPS = {"pickled_model": "model.skops", "serialization_format": "skops", "skops_trusted_types": None}


def write_mlflow(
    folder: Path,
    model: Path | None = None,
    *,
    flavor: str = "sklearn",
    settings: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    inputs: str = '[{"type": "string", "required": true}]',
) -> Path:
    """The folder of a model as MLflow logs it: the files of ``model``, an environment, and MLmodel."""
    folder.mkdir(parents=True, exist_ok=True)
    if model is not None:
        shutil.copytree(model, folder, dirs_exist_ok=True)
    for name in ("requirements.txt", "conda.yaml", "python_env.yaml"):
        (folder / name).write_text("python: 3.11.7\n")
    said = "\n    ".join(f"{k}: {json.dumps(v)}" for k, v in (settings or SKOPS).items())
    text = MLMODEL.format(flavor=flavor, settings=said, metadata=json.dumps(metadata), inputs=inputs)
    (folder / "MLmodel").write_text(text)
    return folder


# --- ONNX --------------------------------------------------------------------------------------------------


def write_onnx(
    folder: Path,
    *,
    tail: str = "logits",
    labels: Sequence[str] = SENTIMENT.labels,
    external: str | None = None,
    domain: str = "",
    operator: str = "MatMul",
) -> Path:
    """A bag of words as an ONNX graph: a score for each token, averaged over the mask.

    ``tail`` is what comes out: ``logits``, ``softmax``, ``divided`` (probabilities without a softmax node),
    ``nan``, or ``value`` (one column). ``labels`` is the order of the columns, written to ``config.json``.
    """
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer

    words = write_tokenizer(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    table = np.zeros((words, 2), dtype=np.float32)
    for sign, group in ((-1.0, BAD), (1.0, GOOD)):
        for word in group:
            for token in tokenizer.encode(word, add_special_tokens=False).ids:
                table[token] += 12.0 * sign * np.array([-1.0, 1.0], dtype=np.float32)
    columns = [1] if tail == "value" else [SENTIMENT.labels.index(label) for label in labels]
    table = np.ascontiguousarray(table[:, columns])
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "input_ids"], ["scores"]),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "two"], ["mask3"]),
        node("Mul", ["scores", "mask3"], ["kept"]),
        node("ReduceSum", ["kept", "one"], ["total"], keepdims=0),
        node("ReduceSum", ["mask", "one"], ["count"], keepdims=1),
        node("Div", ["total", "count"], ["mean"]),
        node(operator, ["mean", "eye"], ["raw"], domain=domain),
        *{
            "logits": [node("Identity", ["raw"], ["logits"])],
            "value": [node("Identity", ["raw"], ["logits"])],
            "softmax": [node("Softmax", ["raw"], ["p"], axis=-1), node("Identity", ["p"], ["logits"])],
            "divided": [
                node("Exp", ["raw"], ["e"]),
                node("ReduceSum", ["e", "one"], ["s"], keepdims=1),
                node("Div", ["e", "s"], ["logits"]),
            ],
            "nan": [node("Sub", ["raw", "raw"], ["z"]), node("Div", ["z", "z"], ["logits"])],
        }[tail],
    ]
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.eye(len(columns), dtype=np.float32), "eye"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),  # the axis of tokens, or of columns
        numpy_helper.from_array(np.array([2], dtype=np.int64), "two"),
    ]
    info = helper.make_tensor_value_info
    ids = [info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")]
    output = info("logits", TensorProto.FLOAT, ["n", len(columns)])
    graph = helper.make_graph(nodes, "bag", ids, [output], constants)
    imports = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    if external is not None:
        _move_out(model, folder, external)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    if tail != "value":
        names = {str(i): label for i, label in enumerate(labels)}
        (folder / "config.json").write_text(json.dumps({"id2label": names}))
    return folder


def _move_out(model: Any, folder: Path, location: str) -> None:
    """Put the table's numbers into another file."""
    from onnx import TensorProto

    table = model.graph.initializer[0]
    raw = table.raw_data
    (folder / Path(location).name).write_bytes(raw)
    table.ClearField("raw_data")
    table.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(raw)))):
        entry = table.external_data.add()
        entry.key, entry.value = key, value


# --- what must never run -----------------------------------------------------------------------------------


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def payload(canary: Path, protocol: int = 4) -> bytes:
    """A pickle that makes the folder ``canary`` when it is loaded."""
    return pickle.dumps(_Touch(canary), protocol=protocol)


def object_array(canary: Path) -> bytes:
    """A ``.npy`` file of objects: a pickle behind NumPy's header."""
    import io

    stream = io.BytesIO()
    array = np.empty(1, dtype=object)
    array[0] = _Touch(canary)
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()
