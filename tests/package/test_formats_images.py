"""Learnwares that read images: transformers, PEFT adapters, ONNX, and scikit-learn on pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.data import Examples, Image, Schema
from learndock.errors import ModelError
from learndock.package.formats._image_settings import read_pixels
from learndock.package.formats._pixels import FILE
from learndock.package.formats.registry import detect, get_format

SCHEMA = Schema("classification", ("dark", "light"), ("dark", "light"), "accuracy")
PREPARED = {
    "do_resize": True, "size": {"height": 16, "width": 16}, "resample": 2, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    "image_processor_type": "ViTImageProcessor",
}  # fmt: skip


def examples(count: int = 16, seed: int = 0) -> Examples:
    """Dark and light images of noise."""
    generator = np.random.default_rng(seed)
    targets = np.arange(count, dtype=np.int64) % 2
    pixels = (generator.integers(0, 100, (count, 20, 24, 3)) + 150 * targets[:, None, None, None]).astype(np.uint8)
    return Examples([Image.from_pixels(p) for p in pixels], targets, SCHEMA, "noise")


def write_vit(folder: Path, **changes: Any) -> Path:
    """A tiny random vision transformer that classifies."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=8,
        id2label={0: "dark", 1: "light"}, label2id={"dark": 0, "light": 1}, initializer_range=0.2, **changes,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ViTForImageClassification(config).save_pretrained(folder)
    (folder / FILE).write_text(json.dumps(PREPARED))
    return folder


# --- preparation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("ViTImageProcessor", {"size": {"height": 18, "width": 14}}),
        ("ViTImageProcessor", {"size": {"height": 18, "width": 18}, "resample": 3, "do_normalize": False}),
        ("CLIPImageProcessor", {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}}),
        ("CLIPImageProcessor", {"size": {"shortest_edge": 12}, "crop_size": {"height": 17, "width": 17}}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 28}, "crop_pct": 0.875}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}, "crop_pct": 0.875}),
    ],
)
@pytest.mark.parametrize("shape", [(40, 61), (33, 20), (16, 16)])
def test_pixels_are_those_of_the_library(
    kind: str, settings: dict[str, Any], shape: tuple[int, int], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = getattr(transformers, f"{kind}Pil")(**settings)
    theirs.save_pretrained(tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)
    ours = next(read_pixels(tmp_path).batches([Image.from_pixels(pixels)])).pixels
    from PIL import Image as Pillow

    expected = theirs(Pillow.fromarray(pixels), return_tensors="np")["pixel_values"]
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("square", [True, False])
def test_a_size_of_one_number_is_a_side_or_both_as_the_file_says(square: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    said = {"image_processor_type": "ViTImageProcessor", "size": 20, "default_to_square": square}
    (tmp_path / FILE).write_text(json.dumps({**said, "do_center_crop": True, "crop_size": 16}))
    pixels = np.random.default_rng(1).integers(0, 256, (40, 61, 3)).astype(np.uint8)
    ours = next(read_pixels(tmp_path).batches([Image.from_pixels(pixels)])).pixels
    theirs = transformers.ViTImageProcessorPil.from_pretrained(tmp_path)
    np.testing.assert_allclose(ours, theirs(pixels, return_tensors="np")["pixel_values"], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"do_pad": True}, "do_pad: not supported"),
        ({"size": {"longest_edge": 100}}, "size is {'longest_edge': 100}"),
        ({"size": {"height": 100_000, "width": 5}}, "expected 1 to 4096 pixels"),
        ({"image_std": [0, 1, 1]}, "must be numbers"),
        ({"size": {"shortest_edge": 16}}, "images keep sizes of their own"),
        ({"resample": "bicubic"}, "resample is 'bicubic'"),
    ],
)
def test_what_is_not_done_here_is_refused(change: dict[str, Any], why: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({**PREPARED, **change}))
    with pytest.raises(ModelError, match=why):
        read_pixels(tmp_path)


def test_a_wall_of_one_pixel_stays_small(tmp_path: Path) -> None:
    said = {**PREPARED, "size": {"shortest_edge": 16}, "do_center_crop": True, "crop_size": 16}
    (tmp_path / FILE).write_text(json.dumps(said))
    thin = Image.from_pixels(np.full((1, 30_000, 3), 255, np.uint8))
    pixels = next(read_pixels(tmp_path).batches([thin])).pixels
    assert pixels.shape == (1, 3, 16, 16)
    assert pixels.min() == 1.0


# --- transformers --------------------------------------------------------------------------------------------


def test_a_vision_transformer_predicts_as_the_library_does(tmp_path: Path) -> None:
    folder = write_vit(tmp_path / "vit")
    found = detect(folder)
    assert found.name == "transformers"
    data = examples()
    predictions = found.load(folder, SCHEMA, found.check(folder, SCHEMA)).predict(data.inputs)
    import torch
    import transformers

    network = transformers.AutoModelForImageClassification.from_pretrained(folder)
    pixels = next(read_pixels(folder).batches(data.inputs)).pixels
    with torch.inference_mode():
        expected = network(pixel_values=torch.from_numpy(pixels)).logits.softmax(1).numpy()
    np.testing.assert_allclose(predictions, expected, atol=1e-5)


def test_texts_are_refused_by_a_model_of_images(tmp_path: Path) -> None:
    folder = write_vit(tmp_path / "vit")
    with pytest.raises(ModelError, match="input 1: this model reads images, found str"):
        get_format("transformers").load(folder, SCHEMA, {}).predict(["a text"])


def test_a_vision_transformer_is_tuned_to_other_labels(tmp_path: Path) -> None:
    folder = write_vit(tmp_path / "vit")
    data = examples(48)
    target = Schema("classification", ("night", "day"), ("night", "day"), "accuracy")
    found = get_format("transformers")
    found.finetune(folder, SCHEMA, {}, data, target, tmp_path / "tuned")
    tuned = found.load(tmp_path / "tuned", target, found.check(tmp_path / "tuned", target))
    assert data.targets is not None
    assert (tuned.predict(examples(16, seed=5).inputs).argmax(1) == examples(16).targets).mean() > 0.9


# --- adapters ------------------------------------------------------------------------------------------------


def test_an_adapter_of_images_predicts_and_is_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peft = pytest.importorskip("peft")
    import torch
    import transformers

    base = write_vit(tmp_path / "bases" / "tiny-vit")
    monkeypatch.setenv("LEARNDOCK_BASES", str(tmp_path / "bases"))
    network = transformers.AutoModelForImageClassification.from_pretrained(base)
    # The library names attention's layers differently from version to version
    linear = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Linear) and "classifier" not in n]
    adapted = peft.get_peft_model(
        network, peft.LoraConfig(r=2, target_modules=linear[:2], modules_to_save=["classifier"])
    )
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_B" in name:
                value.normal_(0, 0.5)
    adapted.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "README.md").unlink(missing_ok=True)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "tiny-vit"
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    found = detect(tmp_path / "adapter")
    assert found.name == "peft"
    settings = found.check(tmp_path / "adapter", SCHEMA)
    bound = found.bind(tmp_path / "adapter", None)  # type: ignore[attr-defined]
    settings["base"] = bound.model_dump()
    data = examples()
    predictions = found.load(tmp_path / "adapter", SCHEMA, settings).predict(data.inputs)
    pixels = next(read_pixels(base).batches(data.inputs)).pixels
    with torch.inference_mode():
        expected = adapted.eval()(pixel_values=torch.from_numpy(pixels)).logits.softmax(1).numpy()
    np.testing.assert_allclose(predictions, expected, atol=1e-5)
    found.finetune(tmp_path / "adapter", SCHEMA, settings, examples(32), SCHEMA, tmp_path / "tuned")
    tuned = found.load(tmp_path / "tuned", SCHEMA, settings).predict(data.inputs)
    assert data.targets is not None
    assert (tuned.argmax(1) == data.targets).mean() > 0.9


# --- ONNX ----------------------------------------------------------------------------------------------------


def write_graph(folder: Path) -> None:
    """A graph by hand: the mean of all pixels decides."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.array([[-4.0, 4.0]], np.float32), "w")
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "axes"], ["mean"], keepdims=1),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
    ]
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    graph = helper.make_graph(
        nodes, "brightness",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])], [weight, axes],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")


def test_a_graph_of_images(tmp_path: Path) -> None:
    write_graph(tmp_path / "model")
    found = detect(tmp_path / "model")
    assert found.name == "onnx"
    with pytest.raises(ModelError, match=f"{FILE}: missing"):
        found.check(tmp_path / "model", SCHEMA)
    (tmp_path / "model" / FILE).write_text(json.dumps(PREPARED))
    data = examples(20)
    model = found.load(tmp_path / "model", SCHEMA, {**found.check(tmp_path / "model", SCHEMA), "columns": [0, 1]})
    assert data.targets is not None
    assert (model.predict(data.inputs).argmax(1) == data.targets).all()


# --- scikit-learn --------------------------------------------------------------------------------------------


def test_a_pipeline_on_pixels_is_packed_predicts_and_is_tuned(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from learndock.spaces.images import ImageEncoder

    data = examples(40)
    assert data.targets is not None
    X = np.array([p.ravel() for p in ImageEncoder(4)(data.inputs)]) / 255
    (tmp_path / "model").mkdir()
    fitted = make_pipeline(LogisticRegression()).fit(X, np.array(SCHEMA.labels)[data.targets])
    skops.dump(fitted, tmp_path / "model" / "model.skops")
    found = get_format("sklearn")
    with pytest.raises(ModelError, match="scikit-learn reads no images; say in features\\.json"):
        found.load(tmp_path / "model", SCHEMA, {}).predict(data.inputs)
    (tmp_path / "model" / "features.json").write_text('{"pixels": 4}')
    settings = found.check(tmp_path / "model", SCHEMA)
    assert settings == {"features": {"pixels": 4}}
    new = examples(20, seed=3)
    predictions = found.load(tmp_path / "model", SCHEMA, settings).predict(new.inputs)
    assert (predictions.argmax(1) == new.targets).all()
    target = Schema("classification", ("night", "day"), ("night", "day"), "accuracy")
    found.finetune(tmp_path / "model", SCHEMA, settings, data, target, tmp_path / "tuned")
    tuned = found.load(tmp_path / "tuned", target, found.check(tmp_path / "tuned", target))
    assert (tuned.predict(new.inputs).argmax(1) == new.targets).all()


@pytest.mark.parametrize("said", ['{"pixels": 0}', '{"pixels": 8, "space": "a"}', '{"space": "../x"}', "{}"])
def test_features_say_one_of_two_things(said: str, tmp_path: Path) -> None:
    from learndock.package.formats._features import read_features

    (tmp_path / "features.json").write_text(said)
    with pytest.raises(ModelError, match=r"features\.json"):
        read_features(tmp_path)


def test_features_of_another_space_of_that_name_are_refused() -> None:
    from learndock.package.formats._features import load_features, settle_features

    settled = settle_features({"features": {"space": "efficientnet-lite0"}})
    assert len(settled["features"]["description"]) == 64
    settled["features"]["description"] = "0" * 64
    with pytest.raises(ModelError, match="is another than the one that this model was made on"):
        load_features(settled)
