"""The tour's images: scikit-learn's handwritten digits, with two questions asked of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from learndock.data import Examples, Schema
from learndock.data.images import Image
from learndock.tour.data import TourTask

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LOOPS = ("zero", "six", "eight", "nine")
SOURCE = (
    "Optical recognition of handwritten digits (Alpaydin and Kaynak, UCI 1998, CC BY 4.0), as scikit-learn ships them"
)
TESTED = 400


def load_image_tasks() -> dict[str, TourTask]:
    """Which digit an image shows, and whether that digit has a closed loop: ``digit`` and ``digit_loop``."""
    from sklearn.datasets import load_digits

    source = load_digits()
    schema = Schema("classification", NAMES, tuple(f"the digit {n}" for n in NAMES), "accuracy")
    inputs = [
        Image.from_pixels((grey * 255 / 16).astype(np.uint8), f"digit {i}") for i, grey in enumerate(source.images)
    ]
    whole = Examples(inputs, source.target.astype(np.int64), schema, "scikit-learn's digits")
    order = np.random.Generator(np.random.Philox(key=[0, 63])).permutation(len(inputs))
    test, train = whole.take(order[:TESTED]), whole.take(order[TESTED:])
    loops = Schema("classification", ("open", "closed"), ("a digit without a loop", "a digit with a loop"), "accuracy")
    closed = np.array([n in LOOPS for n in NAMES], np.int64)
    asked = [replace(part, targets=closed[np.asarray(part.targets)], schema=loops) for part in (train, test)]
    return {
        "digit": TourTask("digit", schema, train, test, SOURCE),
        "digit_loop": TourTask("digit_loop", loops, asked[0], asked[1], SOURCE),
    }
