"""Authoring a space with torch, once, so that nobody needs torch again to use it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.errors import SpaceError
from learndock.files import sha256_file
from learndock.spaces.counter import GENERATOR
from learndock.spaces.export import SAMPLE, write_graphs
from learndock.spaces.space import SPACE_FILE, SPACE_FORMAT, Space, read_space
from learndock.spaces.torch_helper import Recipe, TorchHelper, as_batch, example_batch, load_torch_helper

MAX_ERROR = 1e-5
SKETCH = {"kind": "count", "size": 4096, "seed": 1, "generator": GENERATOR}


def build_space(
    source: str | Path,
    out: str | Path,
    *,
    name: str,
    recipe: Recipe | None = None,
    keep_weights: bool = True,
    sources: dict[str, list[dict[str, str]]] | None = None,
    about: dict[str, str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Space:
    """Author a space from an encoder and write it as a folder that others can install.

    ``keep_weights`` copies weights and tokenizer beside the graphs; without, ``sources`` says where they are.

    Raises:
        SpaceError: the folder exists, or the graph differs from torch by a relative error of 1e-5 or more.
    """
    out = Path(out)
    if out.exists():
        raise SpaceError(f"{out}: exists already; choose another folder or remove it")
    recipe = recipe or Recipe()
    say(f"loading {source}")
    helper = load_torch_helper(source, recipe)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        files = _write_helper_files(Path(source) if Path(source).is_dir() else None, helper, part)
        say("tracing forward and backward pass (about a minute)")
        external = write_graphs(helper, part, files["model.safetensors"])
        say("measuring the public mean")
        center = _public_mean(helper)
        _write_center(part / "center.safetensors", center)
        described = _describe(helper, part)
        _write_space_file(part, name, described, external, sources or {}, about or {})
        say("checking the graph against torch")
        worst = check_space(read_space(part), helper)
        say(f"largest relative error {worst:.1e}")
        if not keep_weights:
            for file in ("model.safetensors", "tokenizer.json"):
                (part / file).unlink()
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return read_space(out)


def _write_helper_files(source: Path | None, helper: TorchHelper, out: Path) -> dict[str, Path]:
    """The helper's own published files where they serve as they are, fresh ones otherwise."""
    from safetensors.torch import save_file

    weights, tokenizer = out / "model.safetensors", out / "tokenizer.json"
    state = helper.model.state_dict()
    config = helper.model.config.to_dict()
    for own in ("_name_or_path", "transformers_version", "architectures", "dtype"):
        config.pop(own, None)
    (out / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if source is not None and _serves(source / weights.name, state):
        shutil.copyfile(source / weights.name, weights)
    else:
        seen: dict[int, str] = {}
        for key, tensor in state.items():
            seen.setdefault(tensor.data_ptr(), key)
        save_file({k: state[k].contiguous().clone() for k in seen.values()}, weights)
    if source is not None and (source / tokenizer.name).is_file():
        shutil.copyfile(source / tokenizer.name, tokenizer)
    else:
        tokenizer.write_text(helper.encoder.tokenizer.to_str(), encoding="utf-8")
    return {weights.name: weights, tokenizer.name: tokenizer}


def _serves(path: Path, state: dict[str, Any]) -> bool:
    """Whether a published weights file holds this model's tensors under its own names, in float32."""
    from safetensors import safe_open

    if not path.is_file():
        return False
    with safe_open(path, "numpy") as tensors:
        names = set(tensors.keys())
        whole = all(tensors.get_slice(k).get_dtype() in ("F32", "I64") for k in names)
    # Poolers are not used, and a tied decoder is the embedding under another name
    needed = {k for k in state if "pooler" not in k and "decoder" not in k and "position_ids" not in k}
    return whole and needed <= names


def _public_mean(helper: TorchHelper) -> NDArray[np.float32]:
    """Mean feature of the whole words of the helper's own vocabulary, ``(width,)``.

    Domain is what remains of a mean feature when this is taken off. The vocabulary is public, comes with
    every text helper and belongs to no task. At most 4,000 words, evenly spaced in the vocabulary's order.
    """
    import torch

    vocabulary = sorted(helper.encoder.tokenizer.get_vocab().items(), key=lambda item: item[1])
    words = [w.lstrip("Ġ▁") for w, _ in vocabulary if not w.startswith(("##", "[", "<"))]
    words = [w for w in words if w.isascii() and w.isalpha() and len(w) > 2] or ["a", "the"]
    chosen = [words[int(i)] for i in np.linspace(0, len(words) - 1, min(4000, len(words)))]
    total = np.zeros(helper.width, np.float64)
    with torch.inference_mode():
        for start in range(0, len(chosen), 64):
            total += helper.features(None, as_batch(helper, chosen[start : start + 64])).numpy().sum(0)
    return (total / len(chosen)).astype(np.float32)


def _write_center(path: Path, center: NDArray[np.float32]) -> None:
    from safetensors.numpy import save_file

    save_file({"center": center}, path)


def _describe(helper: TorchHelper, folder: Path) -> dict[str, Any]:
    files = (
        "model.safetensors",
        "tokenizer.json",
        "config.json",
        "features.onnx",
        "gradients.onnx",
        "center.safetensors",
    )
    masked = helper.recipe.pooling == "mask"
    return {
        "input": "text",
        "helper": {
            "architecture": helper.model.config.model_type,
            "layers": helper.model.config.num_hidden_layers,
            "width": helper.width,
            "pooling": helper.recipe.pooling,
        },
        "encoder": {
            "max_tokens": helper.recipe.max_tokens,
            "pad": helper.encoder.pad,
            "mask": helper.mask_token if masked else None,
            "template": helper.encoder.template,
        },
        "adapters": {
            "targets": sorted({n.rsplit(".", 1)[-1] for n, _ in helper.layers}),
            "layers": len(helper.layers),
            "rank": helper.recipe.rank,
            "size": helper.size,
            "seed": helper.recipe.seed,
            "law": "uniform, E[AA^T]=I",
            "generator": GENERATOR,
        },
        "head": {"anchors": "table", "table": _table_name(helper, folder)} if masked else {"anchors": "embedding"},
        "sketch": SKETCH,
        "files": {f: sha256_file(folder / f) for f in files},
    }


def _table_name(helper: TorchHelper, folder: Path) -> str:
    """The tensor of the weights file that is the (tied) output embedding."""
    from safetensors.numpy import load_file

    table = helper.model.get_output_embeddings().weight.detach().numpy()
    for name, tensor in load_file(folder / "model.safetensors").items():
        if tensor.shape == table.shape and np.array_equal(tensor, table):
            return name
    raise SpaceError("the output embedding of this masked LM is not in its weights file")


def _write_space_file(
    folder: Path,
    name: str,
    described: dict[str, Any],
    external: dict[str, list[str]],
    sources: dict[str, list[dict[str, str]]],
    about: dict[str, str],
) -> None:
    whole = {
        "space": SPACE_FORMAT,
        "name": name,
        "description": described,
        "external": external,
        "sources": sources,
        "about": about,
    }
    (folder / SPACE_FILE).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def check_space(space: Space, helper: TorchHelper) -> float:
    """Largest relative error of the graph's gradients and features against torch, over several shapes.

    Raises:
        SpaceError: it is 1e-5 or more.
    """
    worst = 0.0
    long = " ".join(SAMPLE * 12)
    for seed, texts in enumerate((list(SAMPLE), ["one"], [*SAMPLE, long] * 3, [long[:200], "a b"])):
        batch, direction = example_batch(helper, texts, seed)
        features, gradients = (v.numpy() for v in helper.gradients(batch, direction))
        found = np.zeros_like(gradients)
        for part in space.helper.gradients(texts, direction.numpy()[:, None, :]):
            found[part.rows] = part.gradients
        for ours, theirs in ((found, gradients), (space.helper.features(texts), features)):
            worst = max(worst, float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    if not worst < MAX_ERROR:
        raise SpaceError(f"space {space.name}: the exported graph differs from torch by {worst:.1e} (relative)")
    return worst
