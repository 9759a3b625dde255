"""Images as models take them: resized, cut from the middle and scaled, with Pillow and NumPy alone.

``_image_settings`` reads how from ``preprocessor_config.json``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.images import Image, pillow_image
from learndock.errors import ModelError
from learndock.package.formats._tokens import Integers

FILE = "preprocessor_config.json"
BATCH = 16
#: Sides whose ratio is larger are cut before they are resized: one pixel by a million would become a wall.
MAX_RATIO = 50


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
    backwards: bool = field(default=False, kw_only=True)
    """Whether the model takes blue, green, red."""

    def encode(self, inputs: Sequence[Input]) -> list[NDArray[np.uint8]]:
        """Pixels ``(height, width, 3)`` uint8 of every input, resized and cut.

        Raises:
            ModelError: an input is not an image.
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
        if self.backwards:
            pixels = pixels[..., ::-1]
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
