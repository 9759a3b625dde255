"""Images as the pixels that a graph takes: the only place in this room that knows inputs are images.

Every image is cut to its middle square and resized in one step, by Pillow's fixed-point arithmetic. A graph takes
the bytes as they are; what it subtracts and divides by is part of the graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.images import Image, pillow_image
from learndock.errors import DataError, SpaceError
from learndock.spaces.philox import stream
from learndock.spaces.reading import image_remarks, sample

#: How inputs become pixels, in words: hashed into a space's id.
DECODING = "first frame, turned as EXIF says, 16 bits to 8 by rounding, transparency on white, RGB"
FITTING = "middle square, resized in one step"
RESAMPLING = {"bicubic": 3, "bilinear": 2}


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """Pixels ``(size, size, 3)`` uint8 of every image."""

    size: int
    resampling: str = "bicubic"

    def __call__(self, inputs: Sequence[Any]) -> list[NDArray[Any]]:
        """Pixels of every input; as long as its rows, which is its cost.

        Raises:
            DataError: an input is not an image, or cannot be read.
        """
        return [self._pixels(i) for i in inputs]

    def reading(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """What resizing takes from ``inputs`` (see ``reading.image_remarks``); empty where nothing is odd."""
        return image_remarks([i for i in sample(inputs) if isinstance(i, Image)], self.size)

    def _pixels(self, value: Any) -> NDArray[np.uint8]:
        if not isinstance(value, Image):
            raise DataError(
                f"this space reads images, not {type(value).__name__}", remedy="choose a space for such inputs"
            )
        opened = pillow_image(value)
        side = min(opened.size)
        left, top = ((extent - side) / 2 for extent in opened.size)
        box = (left, top, left + side, top + side)
        fitted = opened.resize((self.size, self.size), RESAMPLING[self.resampling], box=box)
        return np.asarray(fitted, np.uint8)

    def pad_batch(self, pixels: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The array ``pixels``, ``(n, size, size, 3)``."""
        return {"pixels": np.stack(pixels)}

    def describe(self) -> dict[str, Any]:
        """What a space says about it; ``check`` is what ``fingerprint`` must be."""
        return {
            "size": self.size,
            "decoding": DECODING,
            "fitting": FITTING,
            "resampling": f"pillow {self.resampling}",
            "check": self.fingerprint(),
        }

    def fingerprint(self) -> str:
        """SHA-256 of the pixels that a few images of noise become here: whether this machine resizes as others do."""
        found = hashlib.sha256()
        for number, (height, width) in enumerate(((300, 451), (32, 32), (7, 90), (1, 1))):
            raw = stream(7, number, height * width * 3)
            noise = (raw >> np.uint64(56)).astype(np.uint8).reshape(height, width, 3)
            found.update(self._pixels(Image.from_pixels(noise)).tobytes())
        return found.hexdigest()


def read_image_encoder(described: dict[str, Any], name: str) -> ImageEncoder:
    """The encoder that a space describes, after it was found to work here as it did where the space was made.

    Raises:
        SpaceError: it describes another one, or this Pillow computes other pixels.
        MissingExtra: Pillow is not installed.
    """
    _, _, resampling = str(described["resampling"]).partition(" ")
    if resampling not in RESAMPLING or described["decoding"] != DECODING or described["fitting"] != FITTING:
        raise SpaceError(
            f"space {name}: prepares images in a way that this version does not know", remedy="update learndock"
        )
    encoder = ImageEncoder(int(described["size"]), resampling)
    if encoder.fingerprint() != described["check"]:
        from PIL import __version__ as version

        raise SpaceError(
            f"space {name}: Pillow {version} resizes images differently here from where the space was made, so specs "
            "would not compare",
            remedy="install another version of Pillow",
        )
    return encoder
