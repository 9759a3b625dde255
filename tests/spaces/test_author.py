"""Authoring: the exported graph is the formula, on any shape, and a folder appears whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.errors import SpaceError
from learndock.spaces import Space
from learndock.spaces.authoring.author import (
    MAX_ERROR,
    TextAuthored,
    build_space,
    check_space,
    example_batch,
    space_in_torch,
)
from learndock.spaces.authoring.torch_helper import (
    Recipe,
    TorchHelper,
    load_torch_helper,
    space_torch_helper,
    target_layers,
)
from learndock.spaces.onnx_helper import load_helper

TEXTS = ["good film", "the nurse wrote down the temperature twice", "no", "a very long, cold day and the rain " * 4]
MASKED = Recipe(rank=4, max_tokens=64, pooling="mask", template="{text} It was <mask>.")


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def graph_gradients(space: Space, texts: list[Any], directions: np.ndarray) -> np.ndarray:
    found = np.full((len(texts), space.size), np.nan, np.float32)
    for batch in load_helper(space).gradients(texts, directions[:, None, :]):
        found[batch.rows] = batch.gradients
    return found


# --- the graph is the formula --------------------------------------------------------------------------------


def test_gradients_are_those_of_a_lora_at_zero(tiny_space: Space, tiny_encoder: Path) -> None:
    from tests.support.torch_reference import Reference

    reference = Reference(tiny_encoder, Recipe(rank=4, max_tokens=64))
    texts = [*TEXTS, ("the blood", "a question and an answer")]
    directions = np.random.default_rng(0).normal(size=(len(texts), 32)).astype(np.float32)
    # A pair's second text has another token type in BERT's own use; a space gives all tokens the first
    singles = [i for i, t in enumerate(texts) if isinstance(t, str)]
    expected = np.stack([reference.gradient(texts[i], directions[i]) for i in singles])
    found = graph_gradients(tiny_space, texts, directions)
    assert np.isfinite(found).all()
    assert relative(found[singles], expected) < 1e-5
    assert relative(load_helper(tiny_space).features([texts[i] for i in singles]), reference.features(TEXTS)) < 1e-5


def test_the_mask_of_a_template_is_read_as_torch_reads_it(tiny_masked_space: Space, tiny_masked_encoder: Path) -> None:
    from tests.support.torch_reference import Reference

    reference = Reference(tiny_masked_encoder, MASKED)
    texts = TEXTS[:3]
    directions = np.random.default_rng(1).normal(size=(3, 32)).astype(np.float32)
    expected = np.stack([reference.gradient(t, d) for t, d in zip(texts, directions, strict=True)])
    assert relative(graph_gradients(tiny_masked_space, texts, directions), expected) < 1e-5
    assert relative(load_helper(tiny_masked_space).features(texts), reference.features(texts)) < 1e-5


@pytest.mark.parametrize("name", ["tiny_space", "tiny_masked_space", pytest.param("minilm", marks=pytest.mark.slow)])
def test_graph_and_torch_agree_on_shapes_that_were_not_traced(name: str, request: pytest.FixtureRequest) -> None:
    space = request.getfixturevalue(name)
    assert check_space(space, space_in_torch(space)) < MAX_ERROR == 1e-5


def test_a_graph_of_other_weights_is_noticed(tiny_space: Space, tiny_encoder: Path) -> None:
    import torch

    other = load_torch_helper(tiny_encoder, Recipe(rank=4, max_tokens=64))
    with torch.no_grad():
        other.layers[-1][1].weight[0, 0] += 0.01
    with pytest.raises(SpaceError, match=r"space tiny: the exported graph differs from torch by .* \(relative\)"):
        check_space(tiny_space, TextAuthored(other))


def test_features_move_as_the_gradient_says(tiny_space: Space) -> None:
    """A step along the gradient: what the behaviour is about, without autograd."""
    import torch

    helper = space_torch_helper(tiny_space)
    *batch, _ = example_batch(TextAuthored(helper), TEXTS[:1], 0)
    direction = np.random.default_rng(2).normal(size=(1, 32)).astype(np.float32)
    gradient = graph_gradients(tiny_space, TEXTS[:1], direction)[0]
    step = 1e-2 * gradient / np.linalg.norm(gradient)
    ends = np.cumsum([rows * columns for rows, columns in helper.shapes])[:-1]

    def height(sign: float) -> float:
        pieces = np.split(sign * step, ends)
        B = [torch.from_numpy(p.reshape(s)) for p, s in zip(pieces, helper.shapes, strict=True)]
        return float((helper.features(B, *batch) @ torch.from_numpy(direction[0])).item())

    assert (height(1) - height(-1)) / 2e-2 == pytest.approx(np.linalg.norm(gradient), rel=1e-2)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_networks_whose_attention_cannot_be_laid_out_see_padded_rows(tiny_encoder: Path, pooling: str) -> None:
    recipe = Recipe(rank=4, max_tokens=64, pooling=pooling)
    helper, padded = (load_torch_helper(tiny_encoder, recipe) for _ in range(2))
    assert helper.compact
    padded.compact = False
    padded.model.set_attn_implementation("eager")
    batch = example_batch(TextAuthored(helper), TEXTS, 3)
    for ours, theirs in zip(helper.gradients(*batch), padded.gradients(*batch), strict=True):
        assert relative(ours.numpy(), theirs.numpy()) < 1e-5


# --- sizes, from configs alone -------------------------------------------------------------------------------


def meta_size(config: Any, rank: int = 16) -> tuple[int, int]:
    """Layers and numbers in B for an encoder that has no weights."""
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        layers = target_layers(AutoModel.from_config(config))
    nothing: Any = None
    helper = TorchHelper(nothing, nothing, layers, [], Recipe(rank=rank), None, config.hidden_size)
    assert [n for n, _ in helper.layers] == sorted({n for n, _ in layers}, key=[n for n, _ in layers].index)
    return len(layers), helper.size


def test_the_papers_sizes() -> None:
    from transformers import DistilBertConfig, RobertaConfig

    assert meta_size(RobertaConfig()) == (36, 442_368)
    assert meta_size(DistilBertConfig()) == (18, 18 * 768 * 16)


def test_the_size_of_the_published_space() -> None:
    from transformers import BertConfig

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    assert meta_size(config) == (18, 110_592)


def test_layers_of_unknown_names_are_listed() -> None:
    import torch

    with pytest.raises(SpaceError, match=r"no query, key and value projections found.*'mixer'"):
        target_layers(torch.nn.ModuleDict({"mixer": torch.nn.Linear(2, 2)}))


# --- the folder ----------------------------------------------------------------------------------------------


def test_a_space_says_what_it_is_made_of(tiny_space: Space, tiny_masked_space: Space) -> None:
    described = tiny_space.description
    assert described["adapters"] == {
        "targets": ["key", "query", "value"],
        "layers": 6,
        "rank": 4,
        "size": 768,
        "seed": 0,
        "law": "uniform, E[AA^T]=I",
        "generator": "philox4x64-10",
    }
    assert described["head"] == {"prototypes": "embedding"}
    assert tiny_masked_space.description["head"]["table"] == "roberta.embeddings.word_embeddings.weight"
    assert tiny_masked_space.description["encoder"]["template"] == "{text} It was <mask>."
    assert tiny_space.present()
    assert json.loads((tiny_space.folder / "space.json").read_text())["space"] == 1


def test_weights_stay_outside_the_graphs(tiny_space: Space) -> None:
    import onnx

    for file in ("features.onnx", "gradients.onnx"):
        graph = onnx.load(tiny_space.folder / file, load_external_data=False).graph
        outside = {t.name for t in graph.initializer if t.external_data}
        assert outside == set(tiny_space.external[file])
        assert "encoder.layer.1.attention.self.value.weight" in outside
        assert all(t.external_data[0].value == "model.safetensors" for t in graph.initializer if t.external_data)


def test_the_public_mean_is_the_mean_of_the_words(tiny_space: Space) -> None:
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_buffer(tiny_space.read("tokenizer.json")).get_vocab()
    words = [w for w in vocabulary if w.isalpha() and len(w) > 2]
    assert len(words) > 50
    np.testing.assert_allclose(tiny_space.center, load_helper(tiny_space).features(words).mean(0), atol=1e-6)


def test_a_folder_that_exists_is_left_alone(tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SpaceError, match=rf"{tmp_path}: exists already; choose another folder or remove it"):
        build_space(tiny_encoder, tmp_path, name="x")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_what_is_no_encoder_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(SpaceError, match="does not load as an encoder"):
        build_space(tmp_path / "source", tmp_path / "out", name="x")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_a_build_that_fails_half_way_leaves_nothing(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("learndock.spaces.authoring.author.write_graphs", stop)
    with pytest.raises(KeyboardInterrupt):
        build_space(tiny_encoder, tmp_path / "out", name="x", recipe=Recipe(rank=4, max_tokens=64))
    assert list(tmp_path.iterdir()) == []


def test_pickled_weights_are_not_loaded(tiny_encoder: Path, tmp_path: Path) -> None:
    import shutil

    from tests.support.models import payload

    source = Path(shutil.copytree(tiny_encoder, tmp_path / "source"))
    (source / "model.safetensors").unlink()
    (source / "pytorch_model.bin").write_bytes(payload(tmp_path / "canary"))
    with pytest.raises(SpaceError, match="does not load as an encoder"):
        build_space(source, tmp_path / "out", name="x")
    assert not (tmp_path / "canary").exists()
