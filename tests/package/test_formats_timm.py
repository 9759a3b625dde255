"""timm learnwares: timm's own pixels and answers, tuning, and refusals.

What reads the configuration alone runs everywhere; the rest skips where timm is not installed (`make test` brings it
in a folder of its own).
"""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from learndock.data import Examples, Image, Schema
from learndock.errors import MissingExtra, ModelError, UnsafeModel
from learndock.package.formats import timm as module
from learndock.package.formats._timm import read_config
from learndock.package.formats._torchvision import mend_torchvision
from learndock.package.formats.registry import detect
from learndock.package.formats.timm import TimmFormat
from learndock.package.safety import check_files
from tests.support import models

FORMAT = TimmFormat()
SCHEMA = Schema("classification", ("dark", "light"), ("dark", "light"), "accuracy")
THREE = Schema("classification", ("low", "middle", "high"), ("low", "middle", "high"), "accuracy")
SCALE = Schema("regression", ("0", "5"), ("dark", "light"), "pearson")
PREPARED = {
    "input_size": [3, 64, 64], "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center",
    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "num_classes": 2, "first_conv": "conv1.0",
    "classifier": "fc",
}  # fmt: skip


def examples(count: int = 16, seed: int = 0, schema: Schema = SCHEMA) -> Examples:
    """Noise, the darker the lower its class."""
    generator = np.random.default_rng(seed)
    classes = schema.classes or 2
    targets = np.arange(count, dtype=np.int64) % classes
    light = (150 // (classes - 1) * targets)[:, None, None, None]
    pixels = (generator.integers(0, 100, (count, 70, 80, 3)) + light).astype(np.uint8)
    return Examples([Image.from_pixels(p) for p in pixels], targets, schema, "noise")


def write_config(folder: Path, **change: Any) -> Path:
    """``config.json`` by hand, and weights that belong to it only in name."""
    folder.mkdir(exist_ok=True)
    config = {
        "architecture": "test_resnet", "num_classes": 2, "num_features": 256, "label_names": ["dark", "light"],
        "pretrained_cfg": PREPARED,
    }  # fmt: skip
    whole = {k: v for k, v in {**config, **change}.items() if v is not ...}
    (folder / "config.json").write_text(json.dumps(whole))
    save_file({"fc.weight": np.ones((2, 4), np.float32)}, folder / "model.safetensors")
    return folder


def timm() -> Any:
    """The library."""
    pytest.importorskip("torch")
    mend_torchvision()
    return pytest.importorskip("timm", reason='timm is not installed: pip install "learndock[timm]"')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small random network, in a folder that timm wrote."""
    return write_timm(tmp_path / "model")


def write_timm(folder: Path, name: str = "test_resnet", labels: tuple[str, ...] = SCHEMA.labels) -> Path:
    library = timm()
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = library.create_model(name, num_classes=len(labels)).eval()
        with torch.no_grad():
            network.get_classifier().weight.normal_(0, 0.3)
    library.models._hub.save_for_hf(
        network, folder, model_config={"label_names": list(labels)}, safe_serialization=True
    )
    if name == "test_resnet":  # takes images of any size: small ones take less time
        config = json.loads((folder / "config.json").read_text())
        settings(folder, pretrained_cfg={**config["pretrained_cfg"], "input_size": [3, 64, 64]})
    return folder


def load(folder: Path, schema: Schema = SCHEMA) -> Any:
    assert detect(folder).name == "timm"
    return FORMAT.load(folder, schema, FORMAT.check(folder, schema))


def settings(folder: Path, **change: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(change)
    (folder / "config.json").write_text(json.dumps(config))


# --- preparation ---------------------------------------------------------------------------------------------


def scene(height: int, width: int, channels: int | None = 3) -> np.ndarray:
    """Slopes, an edge and some noise, as a photograph has them."""
    rows, columns = np.mgrid[:height, :width]
    light = 90 + 80 * np.sin(rows / 17) * np.cos(columns / 23) + 60 * (columns > rows)
    noise = np.random.default_rng(height).normal(0, 12, (height, width, channels or 1))
    shades = np.array([1.0, 0.8, 0.6])[: channels or 1]
    pixels = np.clip(light[..., None] * shades + noise, 0, 255).astype(np.uint8)
    found: np.ndarray = pixels if channels else pixels[..., 0]
    return found


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"crop_pct": 0.95, "interpolation": "bilinear"},
        {"crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.5] * 3},
        {"input_size": [3, 48, 80], "crop_pct": 0.9},
        {"crop_mode": "squash", "interpolation": "lanczos"},
        {"crop_mode": "squash", "crop_pct": 1.0, "input_size": [3, 33, 50]},
        {"crop_mode": "border", "crop_pct": 0.9},
        {"crop_mode": "border", "crop_pct": 1.0, "input_size": [3, 48, 81]},
        {"interpolation": None, "crop_pct": None, "crop_mode": None, "mean": None, "std": None},
    ],
)
def test_pixels_are_those_of_timm(change: dict[str, Any], tmp_path: Path) -> None:
    timm()
    from timm.data import create_transform, resolve_data_config

    from learndock.data.images import pillow_image

    prepared = {k: v for k, v in {**PREPARED, **change}.items() if v is not None}
    theirs = create_transform(**resolve_data_config({}, pretrained_cfg=prepared), is_training=False)
    pixels = read_config(write_config(tmp_path, pretrained_cfg=prepared), SCHEMA).pixels
    shapes = [(150, 231), (97, 64), (64, 64), (30, 41), (73, 73)]
    images = [Image.from_pixels(scene(*shape)) for shape in shapes]
    images += [Image.from_pixels(scene(120, 91, None))]  # grey
    ours = np.concatenate([batch.pixels for batch in pixels.batches(images, 4)])
    expected = np.stack([theirs(pillow_image(image)).numpy() for image in images])
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=1e-5)


# --- answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "mobilenetv3_small_050"])
def test_the_same_answers_as_timm(name: str, tmp_path: Path) -> None:
    library = timm()
    import torch
    from timm.data import create_transform, resolve_model_data_config

    from learndock.data.images import pillow_image

    folder = write_timm(tmp_path / "model", name)
    network = library.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(network), is_training=False)
    inputs = examples(5).inputs
    with torch.inference_mode():
        logits = network(torch.stack([transform(pillow_image(image)) for image in inputs]))
    before = torch.random.get_rng_state()
    found = load(folder).predict(inputs)
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_allclose(found, logits.double().softmax(1).numpy(), atol=1e-5)


def test_columns_by_name_and_by_description(folder: Path) -> None:
    inputs = examples(4).inputs
    found = load(folder).predict(inputs)
    assert np.abs(found[:, 0] - found[:, 1]).min() > 1e-3  # else nothing could be told apart
    turned = Schema("classification", ("Light", "Dark"), ("light", "dark"), "accuracy")
    np.testing.assert_array_equal(load(folder, turned).predict(inputs), found[:, ::-1])
    other = Schema("classification", ("yes", "no"), ("yes", "no"), "accuracy")
    with pytest.raises(ModelError, match="which column is which label"):
        load(folder, other)
    names = {"label_names": {"0": "n01", "1": "n02"}, "label_descriptions": {"n01": "No", "n02": "Yes"}}
    settings(folder, **names)
    np.testing.assert_array_equal(load(folder, other).predict(inputs), found[:, ::-1])


def test_texts_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="input 1: this model reads images, found str"):
        load(folder).predict(["a text"])


def test_configurations_of_older_versions(tmp_path: Path) -> None:
    """All keys in one object."""
    whole = {**PREPARED, "pretrained_cfg": ..., "labels": ["dark", "light"], "label_names": ..., "num_features": 9}
    described = read_config(write_config(tmp_path, **whole), SCHEMA)
    assert described.names == ("dark", "light")
    assert described.pixels.crop == (64, 64)


# --- refusals ----------------------------------------------------------------------------------------------


def prepared(**change: Any) -> dict[str, Any]:
    return {"pretrained_cfg": {**PREPARED, **change}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "hf-hub:timm/resnet10t.c3_in1k"}, "without a path, a hub or a tag"),
        ({"architecture": "hf_hub:timm/resnet10t"}, "without a path, a hub or a tag"),
        ({"architecture": "local-dir:/tmp/model"}, "without a path, a hub or a tag"),
        ({"architecture": "../resnet10t"}, "without a path, a hub or a tag"),
        ({"architecture": "resnet10t.c3_in1k"}, "without a path, a hub or a tag"),
        ({"architecture": "resnet10t\n"}, "without a path, a hub or a tag"),
        ({"architecture": ["resnet10t"]}, "without a path, a hub or a tag"),
        ({"num_classes": 10**9}, "num_classes is"),
        ({"num_classes": True}, "num_classes is"),
        ({"num_classes": 3}, "label_names must be 3 names"),
        ({"label_names": {"0": "a", "2": "b"}}, "label_names must name the classes 0, 1, 2"),
        ({"label_names": ["a", "b", "c"], "num_classes": 3}, "the model has 3 outputs but the schema has 2 labels"),
        ({"pretrained_cfg": ["mean"]}, "pretrained_cfg is not an object"),
        (prepared(input_size=[3, 1025, 64]), "expected \\[3, height, width\\] of 1 to 1024"),
        (prepared(input_size=[3, 10**9, 10**9]), "expected \\[3, height, width\\]"),
        (prepared(input_size=[1, 64, 64]), "expected \\[3, height, width\\]"),
        (prepared(input_size=[3, -5, 64]), "expected \\[3, height, width\\]"),
        (prepared(crop_pct=1e-9), "crop_pct is 1e-09; expected .5 to 1"),
        (prepared(crop_pct="half"), "crop_pct"),
        (prepared(crop_mode="random"), "crop_mode is 'random'"),
        (prepared(interpolation="random"), "interpolation is 'random'"),
        (prepared(interpolation=["bicubic"]), "interpolation is"),
        (prepared(std=[0, 1, 1]), "std must be above zero"),
        (prepared(mean=[0.5, 0.5]), "mean must be three numbers"),
        (prepared(mean=[1e308] * 3), "mean must be three numbers"),
        (prepared(custom_load=True), "custom_load is not supported"),
        (prepared(label_offset=1), "label_offset is not supported"),
        (prepared(file="/etc/passwd"), "file is not supported"),
        (prepared(state_dict={"a": 1}), "state_dict is not supported"),
        (prepared(entrypoint="os.system"), "entrypoint is not a key that timm writes"),
        ({"model_args": {"act_layer": "torch.nn.ReLU"}}, "model_args.act_layer is not supported"),
        ({"model_args": {"checkpoint_path": "/tmp/evil.pth"}}, "model_args.checkpoint_path is not supported"),
        ({"model_args": {"pretrained": True}}, "model_args.pretrained is not supported"),
        ({"model_args": {"depth": 100_000}}, "model_args.depth is not supported"),
        ({"model_args": {"img_size": 10**6}}, "model_args.img_size is"),
        ({"model_args": {"in_chans": 4}}, "model_args.in_chans is"),
        ({"model_args": {"global_pool": "evil"}}, "model_args.global_pool is"),
        ({"model_args": {"num_classes": 5}}, "model_args.num_classes is 5"),
        ({"model_args": [1]}, "model_args is not an object"),
    ],
)
def test_what_a_configuration_may_not_say(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model")
    assert FORMAT.check(folder, SCHEMA) == {}
    settings(folder, **change)
    assert FORMAT.recognises(folder)
    for step in (FORMAT.check, lambda place, schema: FORMAT.load(place, schema, {})):
        with pytest.raises(ModelError, match=words):
            step(folder, SCHEMA)


def test_regression_needs_one_output(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="regression needs 1"):
        FORMAT.check(write_config(tmp_path / "model"), SCALE)


def test_code_in_the_configuration(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", auto_map={"AutoModel": "modeling_mine.Model"})
    with pytest.raises(UnsafeModel, match=r"config\.json: auto_map"):
        FORMAT.check(folder, SCHEMA)


def test_timm_through_transformers_is_refused(tmp_path: Path) -> None:
    """transformers would hand architecture and arguments to timm as they are."""
    folder = write_config(tmp_path / "model", model_type="timm_wrapper", architecture="hf-hub:evil/model")
    found = detect(folder)
    assert found.name == "transformers"
    with pytest.raises(ModelError, match="timm_wrapper hands names and arguments from this file to timm"):
        found.load(folder, SCHEMA, {})


def test_a_pickle_beside_and_in_place_of_weights(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (folder / "pytorch_model.bin").write_bytes(models.payload(canary))
    load(folder)  # reads the safetensors alone
    with pytest.raises(UnsafeModel, match=r"pytorch_model\.bin: a pickle can run code"):
        check_files(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors: missing .* safe_serialization=True"):
        load(folder)
    (folder / "model.safetensors").write_bytes(models.payload(canary))
    with pytest.raises(UnsafeModel, match=r"model\.safetensors: not safetensors but a pickle"):
        load(folder)
    assert not canary.exists()


def test_weights_that_do_not_fit(folder: Path) -> None:
    path = folder / "model.safetensors"
    sound = load_file(path)

    def refused(words: str, **change: Any) -> None:
        save_file({k: v for k, v in {**sound, **change}.items() if v is not None}, path)
        with pytest.raises(ModelError, match=words):
            load(folder)

    refused(r"1 weights are missing \(fc\.bias\)", **{"fc.bias": None})
    refused(r"1 weights belong to no part of the network \(evil\)", evil=np.ones(3, np.float32))
    refused(r"fc\.bias has the shape \(3,\), the network \(2,\)", **{"fc.bias": np.ones(3, np.float32)})
    refused(r"fc\.bias is of type I8", **{"fc.bias": np.ones(2, np.int8)})
    refused(r"fc\.bias holds values that are not finite", **{"fc.bias": np.array([np.nan, 0], np.float32)})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="not a sound safetensors file"):
        load(folder)


def test_a_small_folder_that_names_a_giant(tmp_path: Path) -> None:
    """Names and shapes are compared before memory is taken: 1.8 thousand million weights would be 7 GB."""
    timm()
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match="weights are missing"):
        load(write_config(tmp_path / "model", architecture="vit_gigantic_patch14_224"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def test_networks_that_timm_does_not_know_or_cannot_build(folder: Path) -> None:
    settings(folder, architecture="never_heard_of")
    with pytest.raises(ModelError, match="'never_heard_of' is not known to timm"):
        load(folder)
    settings(folder, architecture="test_resnet", model_args={"img_size": 64})
    with pytest.raises(ModelError, match=r"timm [0-9.]+ cannot build test_resnet"):
        load(folder)


def test_places_to_fetch_weights_from_are_not_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((folder / "config.json").read_text())
    places = {"url": "http://127.0.0.1:9/evil.pth", "hf_hub_id": "evil/model", "source": "hf-hub", "tag": "x"}
    settings(folder, pretrained_cfg={**config["pretrained_cfg"], **places})

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("somebody called out")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load(folder).predict(examples(2).inputs).shape == (2, 2)


@pytest.mark.parametrize("absent", ["timm", "torch"])
def test_without_the_extra(absent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    folder = write_config(tmp_path / "model")
    assert FORMAT.check(folder, SCHEMA) == {}
    with pytest.raises(MissingExtra, match=r"a timm model needs .*learndock\[timm\]"):
        FORMAT.load(folder, SCHEMA, {})


# --- tuning ------------------------------------------------------------------------------------------------


@pytest.fixture
def large_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random network has more to learn than a pre-trained one."""
    monkeypatch.setattr(module, "PLAN", dataclasses.replace(module.PLAN, rate=2e-3, fresh=2e-3, head=1e-2))


def tuned(folder: Path, data: Examples, target: Schema, out: Path, schema: Schema = SCHEMA, seed: int = 0) -> Any:
    FORMAT.finetune(folder, schema, {}, data, target, out, seed=seed)
    check_files(out)
    return load(out, target)


@pytest.mark.usefixtures("large_steps")
def test_tuning_to_other_labels(folder: Path, tmp_path: Path) -> None:
    data = examples(30, schema=THREE)
    model = tuned(folder, data, THREE, tmp_path / "a")
    new = examples(15, 5, THREE)
    assert new.targets is not None
    assert (model.predict(new.inputs).argmax(1) == new.targets).mean() > 0.8
    again = tuned(folder, data, THREE, tmp_path / "b")
    np.testing.assert_array_equal(model.predict(new.inputs), again.predict(new.inputs))
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["num_classes"] == config["pretrained_cfg"]["num_classes"] == 3
    assert config["label_names"] == list(THREE.labels)
    network = timm().create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True)
    assert network.num_classes == 3
    assert list(network.pretrained_cfg["label_names"]) == list(THREE.labels)


@pytest.fixture
def no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLAN", dataclasses.replace(module.PLAN, rate=0.0, fresh=0.0, head=0.0, epochs=1))


@pytest.mark.usefixtures("no_steps")
def test_the_same_labels_keep_their_columns_and_others_start_anew(folder: Path, tmp_path: Path) -> None:
    turned = Schema("classification", ("light", "dark"), ("light", "dark"), "accuracy")
    data = examples(9)  # the last batch holds one image
    model = tuned(folder, data, turned, tmp_path / "turned")
    np.testing.assert_allclose(model.predict(data.inputs), load(folder).predict(data.inputs)[:, ::-1], atol=1e-6)
    other = Schema("classification", ("yes", "no"), ("yes", "no"), "accuracy")
    tuned(folder, data, other, tmp_path / "other")
    old, new = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "other"))
    assert {name for name in old if not np.array_equal(old[name], new[name])} == {"fc.weight", "fc.bias"}


@pytest.mark.usefixtures("large_steps")
def test_tuning_to_numbers(folder: Path, tmp_path: Path) -> None:
    data = examples(32)
    assert data.targets is not None
    numbers = Examples(data.inputs, 1_000.0 + 50.0 * data.targets)
    found = tuned(folder, numbers, SCALE, tmp_path / "out").predict(data.inputs)
    assert found.shape == (32,)
    assert np.corrcoef(found, data.targets)[0, 1] > 0.7


def test_heads_that_are_not_one_layer(tmp_path: Path) -> None:
    folder = write_timm(tmp_path / "model")
    network = timm().create_model("deit_tiny_distilled_patch16_224", num_classes=2, img_size=32)
    timm().models._hub.save_for_hf(network, folder, model_config={"label_names": ["dark", "light"]},
                                   safe_serialization=True)  # fmt: skip
    assert load(folder).predict(examples(3).inputs).shape == (3, 2)
    with pytest.raises(ModelError, match="output layer is not one plain linear layer"):
        FORMAT.finetune(folder, SCHEMA, {}, examples(4), SCHEMA, tmp_path / "out")


# --- the journey ---------------------------------------------------------------------------------------------


def test_packed_docked_fetched_and_opened_by_timm(folder: Path, tmp_path: Path) -> None:
    """What a dock gives out is a folder that timm loads as it is."""
    import learndock
    from learndock.spaces import get_space

    space = get_space("efficientnet-lite0")
    if any(space.find(file) is None for file in space.files):
        pytest.skip("weights of efficientnet-lite0 are not on this machine")
    data = examples(16)
    packed = learndock.pack(folder, tmp_path / "out", name="ada/light", schema=SCHEMA, examples=data)
    assert packed.manifest.format == "timm"
    dock = learndock.open_dock(tmp_path / "dock")
    dock.add(tmp_path / "out")
    got = dock.get("ada/light", tmp_path / "got")
    learnware = learndock.open_learnware(got)
    assert learndock.evaluate(learnware, data, SCHEMA).n == 16
    expected = load(folder).predict(data.inputs)
    np.testing.assert_array_equal(learndock.predict(learnware, data.inputs), expected)
    network = timm().create_model(f"local-dir:{got}", pretrained=True)
    tensors = load_file(folder / "model.safetensors")
    assert all(np.array_equal(value.numpy(), tensors[name]) for name, value in network.state_dict().items())
    learndock.finetune(learnware, examples(8, schema=THREE), tmp_path / "new", name="eve/three")
    new = learndock.open_learnware(tmp_path / "new")
    assert (new.manifest.format, new.schema.labels) == ("timm", THREE.labels)


# --- torchvision ---------------------------------------------------------------------------------------------


def test_a_torchvision_that_works_is_left_alone(tmp_path: Path) -> None:
    """And one whose compiled part is missing becomes importable; any other failure stays one."""
    pytest.importorskip("torch")
    (tmp_path / "torchvision").mkdir()
    package = tmp_path / "torchvision" / "__init__.py"
    told = 'import torch\n@torch.library.register_fake("torchvision::nms")\ndef f(boxes): return boxes\n'
    (tmp_path / "torchvision" / "_meta_registrations.py").write_text(told)
    code = (
        "import sys; from learndock.package.formats import _torchvision as m\n"
        "m.mend_torchvision(); print('torchvision' in sys.modules, len(m._kept))"
    )

    def run() -> subprocess.CompletedProcess[str]:
        import os

        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)

    package.write_text("")
    assert run().stdout.split() == ["True", "0"]
    package.write_text("from torchvision import _meta_registrations")
    assert run().stdout.split() == ["True", "1"]
    package.write_text("raise RuntimeError('something else')")
    assert "RuntimeError: something else" in run().stderr
