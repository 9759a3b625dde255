"""Vision encoders of transformers as helpers: a tiny CLIP authored whole, others in torch, the papers' count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.data import Examples, Image, Schema
from learndock.errors import SpaceError
from learndock.spaces.onnx_helper import load_helper
from tests.support.tiny import write_byte_pairs

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from learndock.spaces.authoring.torch_helper import Recipe, TorchHelper  # noqa: E402
from learndock.spaces.authoring.vision_helper import synthetic_images  # noqa: E402
from learndock.spaces.authoring.vision_transformers import is_vision, load_vision_transformer, paper_size  # noqa: E402

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
    "initializer_range": 0.2,
}  # fmt: skip


def write_clip(folder: Path) -> Path:
    """A random CLIP with a byte-pair tokenizer, as transformers saves it."""
    folder.mkdir(parents=True)
    words = write_byte_pairs(folder)
    text = {**SIZES, "vocab_size": words, "max_position_embeddings": 24, "eos_token_id": 2, "bos_token_id": 0,
            "pad_token_id": 1, "projection_dim": 24}  # fmt: skip
    vision = {**SIZES, "image_size": 32, "patch_size": 16, "projection_dim": 24}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("encoders") / "clip")


def test_a_clip_of_the_papers_has_their_count_of_numbers() -> None:
    """CLIP ViT-B/32, out_proj, c_fc and c_proj of both towers at rank 16, from the configuration alone."""
    assert paper_size(transformers.CLIPConfig()) == 1_474_560


def test_features_and_phrases_are_those_of_the_library(clip: Path) -> None:
    helper = load_vision_transformer(clip, Recipe(rank=4, max_tokens=16))
    assert helper.size == (32 + 64 + 32) * 4
    assert helper.descriptions is not None
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    pixels = torch.from_numpy(np.stack(helper.encoder(synthetic_images(3))))
    processor = transformers.CLIPImageProcessorPil.from_pretrained(clip)
    mean, std = (torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std))
    descriptions = ["good film", "a very long cold day and the rain", "no"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(clip)
    arrays = helper.descriptions.encoder.pad_batch(helper.descriptions.encoder(descriptions))
    with torch.inference_mode():
        scaled = (pixels.permute(0, 3, 1, 2) / 255 - mean) / std
        seen = model.visual_projection(model.vision_model(scaled).pooler_output)
        # One by one, so that the library pads nothing; its pooling goes by the largest id, ours by the last token
        hidden = [model.text_model(**tokenizer(p, return_tensors="pt")).last_hidden_state[:, -1] for p in descriptions]
        read = model.text_projection(torch.cat(hidden))
        ours = (
            helper.features(None, pixels),
            helper.descriptions.features(*(torch.from_numpy(arrays[name]) for name in TorchHelper.names)),
        )
    for found, expected in zip(ours, (seen, read), strict=True):
        torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True), atol=2e-5, rtol=0)


@pytest.mark.slow
def test_a_clip_becomes_a_space_whose_head_are_phrases(clip: Path, tmp_path: Path) -> None:
    """Three graphs are traced and compared with torch; then specs of both recipes are made, and a flip noticed."""
    from learndock.errors import WeightsChanged
    from learndock.spaces.authoring.author import build_space
    from learndock.spaces.space import read_space
    from learndock.spec import make_spec

    space = build_space(clip, tmp_path / "tiny-clip", name="tiny-clip", recipe=Recipe(rank=4, max_tokens=16))
    assert (space.input, space.reads_descriptions, space.size) == ("image", True, (32 + 64 + 32) * 4)
    helper = load_vision_transformer(clip, Recipe(rank=4, max_tokens=16))
    assert helper.descriptions is not None
    descriptions = ["good film", "a very long cold day and the rain", "no"]
    arrays = helper.descriptions.encoder.pad_batch(helper.descriptions.encoder(descriptions))
    read = helper.descriptions.features(*(torch.from_numpy(arrays[name]) for name in TorchHelper.names))
    np.testing.assert_allclose(load_helper(space).description_prototypes(descriptions), read.numpy(), atol=2e-5)
    generator = np.random.default_rng(0)
    targets = np.arange(16) % 2
    pixels = (generator.integers(0, 90, (16, 20, 24, 3)) + 160 * targets[:, None, None, None]).astype(np.uint8)
    schema = Schema("classification", ("dark", "light"), ("a dark day", "a light day"), "accuracy")
    examples = Examples([Image.from_pixels(p) for p in pixels], targets, schema, "noise")
    assert make_spec(examples, space=space).settings["head"] == "descriptions"
    assert make_spec(examples, space=space, head="means").behaviour.any()
    fitted = make_spec(examples, space=space, recipe="paper", steps=5, learning_rate=1e-3)
    assert fitted.space["recipe"] == "paper"
    graph = space.folder / "descriptions.onnx"
    graph.write_bytes(graph.read_bytes() + b" ")
    with pytest.raises(WeightsChanged, match=r"descriptions\.onnx"):
        _ = load_helper(read_space(space.folder))


@pytest.mark.parametrize("kind", ["ViT", "Dinov2", "ConvNext"])
def test_plain_encoders_have_gradients_that_features_follow(kind: str, tmp_path: Path) -> None:
    """In double precision: two steps along the gradient, without autograd."""
    sizes: dict[str, Any] = {**SIZES, "image_size": 32, "patch_size": 16}
    if kind == "Dinov2":
        sizes = {k: v for k, v in sizes.items() if k != "intermediate_size"}
    if kind == "ConvNext":
        sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "image_size": 32, "initializer_range": 0.2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**sizes)).save_pretrained(tmp_path)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    assert is_vision(tmp_path)
    helper = load_vision_transformer(tmp_path, Recipe(rank=2))
    images = synthetic_images(2)
    pixels = torch.from_numpy(np.stack(helper.encoder(images)))
    direction = torch.randn(2, helper.width, generator=torch.Generator().manual_seed(0))
    _, gradients = helper.gradients(pixels, direction)
    assert gradients.shape == (2, helper.size)
    length = gradients.norm(dim=1, keepdim=True)
    parts = (gradients / length).split([rows * rank for rows, rank in helper.shapes], dim=1)
    B = [p.reshape(2, *shape) for p, shape in zip(parts, helper.shapes, strict=True)]
    step = 1e-2
    ends = [(helper.features([sign * step * b for b in B], pixels) * direction).sum(1) for sign in (1, -1)]
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), length[:, 0], rtol=0.03, atol=1e-3)


def test_what_cannot_be_a_helper_is_refused(clip: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    from learndock.spaces.authoring.author import load_authored

    assert not is_vision(tiny_encoder)
    with pytest.raises(SpaceError, match="reads images, and has no mask to read"):
        load_authored(clip, Recipe(pooling="mask"))
    with pytest.raises(SpaceError, match="does not load as an encoder"):
        is_vision(tmp_path / "nowhere")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(tmp_path / "resnet")
    transformers.ConvNextImageProcessorPil().save_pretrained(tmp_path / "resnet")
    with pytest.raises(SpaceError, match="no layers to adapt were found"):
        load_authored(tmp_path / "resnet", Recipe())
