"""Images as models take them: what ``preprocessor_config.json`` says, done with Pillow and NumPy alone.

The common processors of transformers are a resize, a crop from the middle, a factor, a mean and a deviation; a file
that asks for more is refused, because a model would run and be wrong. A test compares the pixels with the library's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.images import Image, pillow_image
from learndock.errors import ModelError
from learndock.package.formats._tokens import Integers
from learndock.package.json_file import read_object

FILE = "preprocessor_config.json"
BATCH = 16
MAX_SIDE = 4096
#: Sides whose ratio is larger are cut before they are resized: one pixel by a million would become a wall.
MAX_RATIO = 50
_SAID = frozenset(
    {
        "crop_pct", "crop_size", "do_center_crop", "do_convert_rgb", "do_normalize", "do_rescale", "do_resize",
        "image_mean", "image_std", "resample", "rescale_factor", "size",
    }
)  # fmt: skip
#: Of how the library works, without effect on one image.
_IGNORED = frozenset(
    {
        "_valid_processor_keys", "data_format", "default_to_square", "device", "disable_grouping",
        "feature_extractor_type", "image_processor_type", "image_seq_length", "input_data_format", "processor_class",
        "return_tensors",
    }
)  # fmt: skip


@dataclass(frozen=True)
class PixelBatch:
    """``rows`` (b,) are positions of inputs, ``pixels`` ``(b, 3, height, width)`` float32."""

    rows: Integers
    pixels: NDArray[np.float32]


@dataclass(frozen=True)
class Pixels:
    """What is done to an image: ``shortest`` or ``exact`` (height, width), then a crop, then numbers."""

    shortest: int | None
    exact: tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: int
    factor: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def encode(self, inputs: Sequence[Input]) -> list[NDArray[np.uint8]]:
        """Pixels ``(height, width, 3)`` uint8 of every input, resized and cut.

        Raises:
            ModelError: an input is no image.
        """
        found = []
        for number, value in enumerate(inputs, start=1):
            if not isinstance(value, Image):
                raise ModelError(f"input {number}: this model reads images, found {type(value).__name__}")
            found.append(self._fitted(value))
        return found

    def batch(self, encodings: Sequence[NDArray[np.uint8]], rows: Sequence[int]) -> PixelBatch:
        """The images at ``rows``, as numbers."""
        scaled = np.stack([encodings[r] for r in rows]).astype(np.float32) * np.float32(self.factor)
        mean, deviation = (np.array(v, np.float32) for v in (self.mean, self.deviation))
        pixels: NDArray[np.float32] = (scaled - mean) / deviation
        return PixelBatch(np.asarray(rows, np.int64), np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))

    def batches(self, inputs: Sequence[Input], size: int = BATCH) -> Iterator[PixelBatch]:
        """All inputs, a few at a time: decoded images are large."""
        for start in range(0, len(inputs), size):
            encoded = self.encode(inputs[start : start + size])
            batch = self.batch(encoded, range(len(encoded)))
            yield PixelBatch(batch.rows + start, batch.pixels)

    def _fitted(self, value: Image) -> NDArray[np.uint8]:
        opened = pillow_image(value)
        if max(opened.size) > MAX_RATIO * min(opened.size):
            side = MAX_RATIO * min(opened.size)
            left, top = (max((extent - side) // 2, 0) for extent in opened.size)
            opened = opened.crop((left, top, min(left + side, opened.width), min(top + side, opened.height)))
        height, width = self.resized(opened.height, opened.width)
        return self.cut(np.asarray(opened.resize((width, height), self.resample), np.uint8))

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of ``height`` and ``width`` is resized to."""
        if self.exact is not None:
            return self.exact
        if self.shortest is None:
            return height, width
        longer = int(self.shortest * max(height, width) / min(height, width))
        return (self.shortest, longer) if width > height else (longer, self.shortest)

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What remains of a resized image, ``(height, width, 3)``."""
        return pixels if self.crop is None else _middle(pixels, *self.crop)


def _middle(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The middle of an image, with black around where it is too small."""
    rows, columns = pixels.shape[:2]
    padded = np.zeros((max(rows, height), max(columns, width), 3), np.uint8)
    # As the library rounds: up for what is added, down for what is cut
    top, left = -(-(padded.shape[0] - rows) // 2), -(-(padded.shape[1] - columns) // 2)
    padded[top : top + rows, left : left + columns] = pixels
    top, left = (padded.shape[0] - height) // 2, (padded.shape[1] - width) // 2
    return padded[top : top + height, left : left + width]


def reads_images(folder: Path) -> bool:
    """Whether a model folder says how its images are prepared."""
    return (folder / FILE).is_file()


def read_pixels(folder: Path) -> Pixels:
    """What ``preprocessor_config.json`` says.

    Raises:
        ModelError: it asks for something that is not done here, or is damaged.
    """
    said = read_object(folder / FILE)
    odd = sorted(k for k, v in said.items() if v and k not in _SAID | _IGNORED)
    if odd:
        raise ModelError(
            f"{', '.join(odd[:3])}: not supported", remedy="export the model to ONNX with it inside", about=FILE
        )
    shortest, exact = _size(said) if said.get("do_resize", True) else (None, None)
    crop = _pair(said.get("crop_size"), "crop_size") if said.get("do_center_crop") else None
    fraction = said.get("crop_pct")
    if fraction is not None and shortest is not None and said.get("do_resize", True):
        if not isinstance(fraction, int | float) or not 0.1 <= fraction <= 1:
            raise ModelError(f"crop_pct is {fraction!r}", about=FILE)
        crop, exact = (shortest, shortest), (shortest, shortest) if shortest >= 384 else None
        shortest = int(shortest / fraction)
    if exact is None and crop is None:
        raise ModelError("images keep sizes of their own (no size and no crop)", remedy="give both sides", about=FILE)
    factor = said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 1.0
    mean, deviation = ([0.0] * 3, [1.0] * 3)
    if said.get("do_normalize", True):
        mean, deviation = said.get("image_mean") or [0.5] * 3, said.get("image_std") or [0.5] * 3
    numbers = [factor, *mean, *deviation]
    if len(numbers) != 7 or not all(isinstance(v, int | float) for v in numbers) or 0 in deviation:
        raise ModelError("rescale_factor, image_mean and image_std must be numbers, three of each mean", about=FILE)
    resample = said.get("resample", 2)
    if type(resample) is not int or not 0 <= resample <= 5:
        raise ModelError(f"resample is {resample!r}", about=FILE)
    return Pixels(shortest, exact, crop, resample, float(factor), tuple(mean), tuple(deviation))


def _size(said: Mapping[str, Any]) -> tuple[int | None, tuple[int, int] | None]:
    size = said.get("size")
    if isinstance(size, int):
        size = {"height": size, "width": size}
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return _side(size["shortest_edge"], "size"), None
    return None, _pair(size, "size")


def _pair(value: Any, name: str) -> tuple[int, int]:
    if isinstance(value, int):
        value = {"height": value, "width": value}
    if not isinstance(value, Mapping) or set(value) != {"height", "width"}:
        raise ModelError(f"{name} is {value!r}", remedy="expected height and width", about=FILE)
    return _side(value["height"], name), _side(value["width"], name)


def _side(value: Any, name: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_SIDE:
        raise ModelError(f"{name} is {value!r}", remedy=f"expected 1 to {MAX_SIDE} pixels", about=FILE)
    return value
