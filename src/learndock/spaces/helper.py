"""The helper of a space, ready to run: features of inputs, and per-example gradients in B at B = 0.

What a helper promises is small, so that recipes, statistics and search know nothing of texts, tokens, heads
or classes. The helper here is an exported graph, run by onnxruntime; no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.errors import SpaceError, UsageError
from learndock.progress import Progress as Progress
from learndock.spaces.images import read_image_encoder
from learndock.spaces.prompts import PromptEncoder, read_format
from learndock.spaces.space import Space
from learndock.spaces.text import read_text_encoder

Float = NDArray[np.float32]

#: One run of the graph: enough tokens to fill the processor, few enough to stay in its cache, and inputs of similar
#: length, since attention still pads to the longest.
BATCH_TOKENS = 384
BATCH_STRETCH = 1.5
#: Sets of descriptions whose prototypes a helper remembers.
REMEMBERED = 64


class Encoder(Protocol):
    """Turns inputs of one kind into the arrays that a graph takes."""

    def __call__(self, inputs: Sequence[Input]) -> list[NDArray[Any]]:
        """One array for each input; its length is its cost."""
        ...

    def pad_batch(self, ids: Sequence[NDArray[Any]], /) -> Mapping[str, NDArray[Any]]:
        """The graph's named inputs for a few encoded inputs."""
        ...


@dataclass(frozen=True, eq=False)
class GradientBatch:
    """What one run of the graph gives: ``rows`` and ``columns`` ``(b,)`` say which example and which of its
    directions; ``features`` ``(b, width)`` are f(x), ``gradients`` ``(b, |B|)`` are d<f(x), t>/dB at B = 0.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    features: Float
    gradients: Float


class Helper(Protocol):
    """The small frozen pre-trained model on which all specs of a space are made."""

    @property
    def width(self) -> int:
        """Width of the features."""
        ...

    @property
    def size(self) -> int:
        """Count of numbers in B."""
        ...

    def features(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> Float:
        """Features f(x) of unit length, ``(n, width)`` float32."""
        ...

    def gradients(
        self, inputs: Sequence[Input], directions: Float, *, progress: Progress | None = None
    ) -> Iterator[GradientBatch]:
        """Gradients for ``directions`` ``(n, m, width)``, in batches of the helper's own order."""
        ...

    def description_prototypes(self, descriptions: Sequence[str]) -> Float:
        """What each description means in feature space, ``(len(descriptions), width)``."""
        ...


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
        """The graph of features alone, opened when somebody asks: specs of prompts need none, and it holds weights.

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


def load_helper(space: Space) -> OnnxHelper:
    """Check every file's hash, then load weights, encoder and the graph of gradients; that of features when asked for.

    Raises:
        WeightsMissing, WeightsChanged: see ``Space.read``.
        SpaceError: the graph of gradients does not load here; that of features says so when it is asked for.
    """
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
    """How the inputs of a space become the arrays of its graph.

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
    """What descriptions mean, by the head that a space describes."""
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
        raise UsageError(f"space {space.name} reads no words, so it has no head of descriptions; use the head means")

    return without


def _prototypes_from_features(helper: OnnxHelper, descriptions: Sequence[str]) -> Float:
    return helper.features(list(descriptions))


def _prototypes_from_table(tokenizer: Any, table: Float, descriptions: Sequence[str]) -> Float:
    """Verbalizer: the mean output embedding of the description's tokens, of unit length.

    The leading space makes byte-level tokenizers give the word as it stands inside a sentence.
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
        raise UsageError(f'LEARNDOCK_THREADS is "{given}"; set it to a number of threads, or 0 for all cores')
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
