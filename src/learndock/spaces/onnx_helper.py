"""The helper of a published space, ready to run: exported graphs under onnxruntime, without torch."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.errors import SpaceError, UsageError
from learndock.spaces.helper import Encoder, Float, GradientBatch, Progress
from learndock.spaces.images import read_image_encoder
from learndock.spaces.prompts import PromptEncoder, read_format
from learndock.spaces.space import Space
from learndock.spaces.text import read_text_encoder

#: One run of the graph: enough tokens to fill the processor, few enough to stay in its cache, and inputs of similar
#: length, since attention still pads to the longest.
BATCH_TOKENS = 384
BATCH_STRETCH = 1.5
#: Sets of descriptions whose prototypes a helper remembers.
REMEMBERED = 64
#: Spaces whose helpers stay loaded.
KEPT = 4
#: Files whose hash is checked when they are read for a helper.
_LOADED = frozenset({"center.safetensors", "features.onnx", "gradients.onnx", "model.safetensors", "tokenizer.json"})


@dataclass(frozen=True, eq=False)
class OnnxHelper:
    """A helper that is an exported graph."""

    width: int
    size: int
    encoder: Encoder
    open_features: Callable[[], Any]
    gradient_session: Any
    prototypes: Callable[[OnnxHelper, Sequence[str]], Float]
    remembered: dict[tuple[str, ...], Float] = field(default_factory=dict)

    @cached_property
    def feature_session(self) -> Any:
        """The graph of features alone, opened at first use: specs of prompts do not need it, and it holds weights.

        Raises:
            SpaceError: the graph does not load here.
        """
        return self.open_features()

    def features(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> Float:
        """Features f(x) of unit length, ``(n, width)`` float32."""
        encoded = self.encoder(inputs)
        found = np.zeros((len(encoded), self.width), np.float32)
        done = 0
        for rows in batches([len(e) for e in encoded]):
            feed = self.encoder.pad_batch([encoded[i] for i in rows])
            found[rows] = self.feature_session.run(["features"], dict(feed))[0]
            done += len(rows)
            if progress:
                progress(done, len(encoded))
        return found

    def gradients(
        self, inputs: Sequence[Input], directions: Float, *, progress: Progress | None = None
    ) -> Iterator[GradientBatch]:
        """Gradients for ``directions`` ``(n, m, width)``; directions of length zero are left out."""
        encoded = self.encoder(inputs)
        rows, columns = np.nonzero(np.any(directions != 0, axis=2))
        done = 0
        for batch in batches([len(encoded[i]) for i in rows]):
            feed = dict(self.encoder.pad_batch([encoded[i] for i in rows[batch]]))
            feed["direction"] = np.ascontiguousarray(directions[rows[batch], columns[batch]], np.float32)
            features, gradients = self.gradient_session.run(["features", "gradients"], feed)
            yield GradientBatch(rows[batch], columns[batch], features, gradients)
            done += len(batch)
            if progress:
                progress(done, len(rows))

    def description_prototypes(self, descriptions: Sequence[str]) -> Float:
        """What each description means in feature space, ``(len(descriptions), width)``; remembers the last sets."""
        key = tuple(descriptions)
        if key not in self.remembered:
            if len(self.remembered) >= REMEMBERED:
                self.remembered.clear()
            self.remembered[key] = self.prototypes(self, descriptions)
        return self.remembered[key].copy()


def batches(lengths: Sequence[int]) -> Iterator[NDArray[np.intp]]:
    """Indices in batches of similar length: at most ``BATCH_TOKENS`` together, or one input.

    Padded to its longest a batch is at most ``BATCH_STRETCH`` times as large.
    """
    sizes = np.asarray(lengths, np.int64)
    order = np.argsort(sizes, kind="stable")
    start = 0
    while start < len(order):
        within = np.cumsum(sizes[order[start:]])
        padded = np.arange(1, len(within) + 1) * sizes[order[start:]]
        fits = (within <= BATCH_TOKENS) & (padded <= BATCH_STRETCH * within)
        stop = start + max(int(fits.argmin()) if not fits.all() else len(fits), 1)
        yield order[start:stop]
        start = stop


@functools.lru_cache(maxsize=KEPT)
def load_helper(space: Space) -> OnnxHelper:
    """Check every file's hash, then load weights, encoder and the graph of gradients.

    The graph of features is opened at its first use. The helpers of the last ``KEPT`` spaces stay loaded.

    Raises:
        WeightsMissing, WeightsChanged: see ``Space.read``.
        SpaceError: the graph of gradients does not load here; a broken graph of features is reported at its first use.
    """
    _ = space.center  # no graph reads this file, so its hash is checked here, before any data is read
    for file in space.files:
        # Files that the loader does not need are checked too: a space is the published one, or it is refused
        if file not in _LOADED and space.find(file) is not None:
            space.read(file)
    described = space.description
    encoder = read_encoder(space)
    weights = _Weights(space.read("model.safetensors"))
    graph = space.read("features.onnx")  # checked now, whenever it is opened
    gradients = _session(space, "gradients.onnx", weights)
    prototypes = _prototypes(space, described["head"], encoder, weights)

    def open_features() -> Any:
        return _open(space, "features.onnx", graph, weights)

    return OnnxHelper(space.width, space.size, encoder, open_features, gradients, prototypes)


def read_encoder(space: Space) -> Encoder:
    """Return the encoder of a space, which turns its inputs into the arrays of its graphs.

    Raises:
        SpaceError: inputs of a kind that this version does not know; see ``images.read_image_encoder``.
        WeightsMissing, WeightsChanged: see ``Space.read``.
    """
    described = space.description["encoder"]
    if space.input == "text":
        return read_text_encoder(
            space.read("tokenizer.json"),
            max_tokens=described["max_tokens"],
            pad=described["pad"],
            template=described["template"],
        )
    if space.input == "image":
        return read_image_encoder(described, space.name)
    if space.input == "generation":
        return PromptEncoder(
            read_format(space.read("tokenizer.json"), described),
            described["prompt_tokens"],
            described["completion_tokens"],
        )
    raise SpaceError(f'space {space.name} reads "{space.input}", which this version does not know')


def _prototypes(
    space: Space, head: Mapping[str, Any], encoder: Any, weights: _Weights
) -> Callable[[OnnxHelper, Sequence[str]], Float]:
    """Return the function that gives the prototypes of descriptions, by the head that the space describes."""
    if head["prototypes"] == "embedding":
        return _prototypes_from_features
    if head["prototypes"] == "table":
        table = weights.tensors[head["table"]].astype(np.float32)
        return lambda _, descriptions: _prototypes_from_table(encoder.tokenizer, table, descriptions)

    if head["prototypes"] == "tower":
        reader = read_text_encoder(space.read("tokenizer.json"), **head["encoder"], template=None)
        tower = _session(space, "descriptions.onnx", weights)
        return lambda _, descriptions: np.asarray(
            tower.run(["features"], reader.pad_batch(reader(descriptions)))[0], np.float32
        )

    def without(_: OnnxHelper, descriptions: Sequence[str]) -> Float:
        raise UsageError(
            f"space {space.name} does not read text, so it has no head of descriptions", remedy="use the head means"
        )

    return without


def _prototypes_from_features(helper: OnnxHelper, descriptions: Sequence[str]) -> Float:
    return helper.features(list(descriptions))


def _prototypes_from_table(tokenizer: Any, table: Float, descriptions: Sequence[str]) -> Float:
    """Verbalizer: the mean output embedding of the description's tokens, of unit length.

    The leading space makes byte-level tokenizers encode the word as inside a sentence.
    """
    rows = []
    for description in descriptions:
        ids = tokenizer.encode(" " + description, add_special_tokens=False).ids
        mean = table[ids].mean(0)
        rows.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
    return np.array(rows, np.float32)


class _Weights:
    """The helper's tensors as onnxruntime values over one read of the file, shared by both graphs."""

    def __init__(self, data: bytes) -> None:
        from safetensors.numpy import load

        self.tensors: dict[str, NDArray[Any]] = load(data)

    def values(self, names: Sequence[str]) -> list[Any]:
        import onnxruntime

        return [onnxruntime.OrtValue.ortvalue_from_numpy(self.tensors[n]) for n in names]


def _threads() -> int:
    given = os.environ.get("LEARNDOCK_THREADS") or "0"
    if not (given.isascii() and given.isdigit()):
        raise UsageError(f'LEARNDOCK_THREADS is "{given}"', remedy="set it to a number of threads, or 0 for all cores")
    return int(given)


def _session(space: Space, file: str, weights: _Weights) -> Any:
    return _open(space, file, space.read(file), weights)


def _open(space: Space, file: str, graph: bytes, weights: _Weights) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    options.log_severity_level = 3
    names = list(space.external[file])
    options.add_external_initializers(names, weights.values(names))
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise SpaceError(f"space {space.name}: {file} does not load in onnxruntime ({error})") from error
