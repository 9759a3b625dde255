"""Authoring a space with torch, once, so that its users need no torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.errors import SpaceError
from learndock.files import sha256_file
from learndock.spaces.authoring.export import write_graphs
from learndock.spaces.authoring.torch_helper import (
    Recipe,
    TorchHelper,
    load_torch_helper,
    space_torch_helper,
    token_axes,
)
from learndock.spaces.helper import Encoder
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.philox import GENERATOR
from learndock.spaces.space import SPACE_FILE, SPACE_FORMAT, Space, read_space

if TYPE_CHECKING:
    import torch

    from learndock.spaces.authoring.causal_helper import CausalRecipe

MAX_ERROR = 1e-5
MAX_KINK = 2e-2
SAMPLE = (
    "the nurse wrote down the temperature twice",
    "interest rates rose",
    "who painted the ceiling, and when was it restored after the long rain of that winter?",
    "no",
)
SKETCH = {"kind": "count", "size": 4096, "seed": 1, "generator": GENERATOR}


class Authored(Protocol):
    """A helper in torch that a space can be made of, whatever its inputs are."""

    @property
    def width(self) -> int:
        """Width of the features."""
        ...

    @property
    def encoder(self) -> Encoder:
        """How inputs become tensors."""
        ...

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(out_features, rank) of every B, in layer order."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The graph's inputs, in order, without the direction."""
        ...

    @property
    def kinks(self) -> bool:
        """Whether the gradient jumps where an activation changes sides."""
        ...

    @property
    def max_error(self) -> float:
        """Largest relative error of the graph against torch."""
        ...

    @property
    def sample(self) -> Sequence[Input]:
        """Inputs to trace with."""
        ...

    @property
    def features(self) -> Callable[..., torch.Tensor]:
        """Features ``(n, width)`` for B (or None) and the inputs, by ``names``."""
        ...

    @property
    def gradients(self) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
        """Features and per-example gradients for the inputs and a direction."""
        ...

    def direction_width(self, inputs: Sequence[Input]) -> int:
        """How many numbers a direction has for these inputs."""
        ...

    def trials(self) -> Sequence[Sequence[Input]]:
        """Inputs to check the graph with."""
        ...

    def free_axes(self) -> dict[str, dict[int, Any]]:
        """Which axes of the graph's inputs are free."""
        ...

    def write_files(self, source: Path | None, out: Path) -> None:
        """Write all files of a space that are neither graph nor mean; ``model.safetensors`` among them."""
        ...

    def write_phrases(self, out: Path) -> dict[str, list[str]]:
        """Write the graph of a text tower, if there is one; which tensors it takes, as ``write_graphs`` says it."""
        ...

    def public_mean(self) -> NDArray[np.float32]:
        """The mean feature that domains are measured from, ``(width,)``."""
        ...

    def describe(self, folder: Path) -> dict[str, Any]:
        """The description, but for the law of A and the sketch; hashes the files in ``folder``."""
        ...


@dataclass(eq=False)
class TextAuthored:
    """A text encoder as authoring sees it."""

    helper: TorchHelper
    names = TorchHelper.names
    kinks = False
    max_error = MAX_ERROR
    # A number of examples that is no size of the helper: equal sizes would be taken for one and the same
    sample = (SAMPLE * 10)[:37]

    @property
    def width(self) -> int:
        """See ``Authored``."""
        return self.helper.width

    @property
    def encoder(self) -> Encoder:
        """See ``Authored``."""
        return self.helper.encoder

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """See ``Authored``."""
        return self.helper.shapes

    @property
    def features(self) -> Callable[..., torch.Tensor]:
        """See ``Authored``."""
        return self.helper.features

    @property
    def gradients(self) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
        """See ``Authored``."""
        return self.helper.gradients

    def direction_width(self, inputs: Sequence[Input]) -> int:
        """See ``Authored``: a point in feature space."""
        return self.width

    def trials(self) -> list[list[str]]:
        """See ``Authored``: several counts and lengths."""
        long = " ".join(SAMPLE * 12)
        return [list(SAMPLE), ["one"], [*SAMPLE, long] * 3, [long[:200], "a b"]]

    def free_axes(self) -> dict[str, dict[int, Any]]:
        """See ``Authored``: numbers of examples and of tokens, and the longest length."""
        import torch

        n = torch.export.Dim("n", min=1, max=4096)
        return {**token_axes(self.helper.recipe.max_tokens, n), "direction": {0: n}}

    def write_files(self, source: Path | None, out: Path) -> None:
        """See ``Authored``."""
        _write_helper_files(source, self.helper, out)

    def write_phrases(self, out: Path) -> dict[str, list[str]]:
        """See ``Authored``: the one graph reads descriptions too."""
        return {}

    def public_mean(self) -> NDArray[np.float32]:
        """See ``Authored``: of the words of the vocabulary."""
        return _public_mean(self.helper)

    def describe(self, folder: Path) -> dict[str, Any]:
        """See ``Authored``."""
        return _describe(self.helper, folder)


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
        SpaceError: the folder exists, or the graph differs from torch by more than rounding.
    """
    require_free(out)
    say(f"loading {source}")
    return publish(
        load_authored(source, recipe or Recipe()), Path(source) if Path(source).is_dir() else None, out,
        name=name, keep_weights=keep_weights, sources=sources, about=about, say=say,
    )  # fmt: skip


def load_authored(source: str | Path, recipe: Recipe) -> Authored:
    """The encoder of a folder or hub name in torch, whatever it reads.

    Raises:
        MissingExtra, SpaceError: see ``load_torch_helper``; a prompt for an encoder of images.
    """
    from learndock.spaces.authoring.vision_transformers import is_vision, load_vision_transformer

    if not is_vision(source):
        return TextAuthored(load_torch_helper(source, recipe))
    if recipe.pooling == "mask":
        raise SpaceError("reads images, and has no mask to read", remedy="use the pooling mean or cls", about=source)
    return load_vision_transformer(source, recipe)


def build_causal_space(
    source: str | Path,
    out: str | Path,
    *,
    name: str,
    recipe: CausalRecipe | None = None,
    keep_weights: bool = True,
    sources: dict[str, list[dict[str, str]]] | None = None,
    about: dict[str, str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Space:
    """Author a space of prompts and completions from a causal language model; see ``build_space``.

    Raises:
        SpaceError: the folder exists, the model is of no known family, or the graph differs from torch.
    """
    from learndock.spaces.authoring.causal_helper import CausalRecipe, load_causal_helper

    require_free(out)
    say(f"loading {source}")
    helper = load_causal_helper(source, recipe or CausalRecipe())
    return publish(
        helper, Path(source) if Path(source).is_dir() else None, out,
        name=name, keep_weights=keep_weights, sources=sources, about=about, say=say,
    )  # fmt: skip


def require_free(out: str | Path) -> None:
    """Check that nothing stands where a space is to be written.

    Raises:
        SpaceError: something does.
    """
    if Path(out).exists():
        raise SpaceError("exists already", remedy="choose another folder or remove it", about=out)


def publish(
    helper: Authored,
    source: Path | None,
    out: str | Path,
    *,
    name: str,
    keep_weights: bool = True,
    sources: dict[str, list[dict[str, str]]] | None = None,
    about: dict[str, str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Space:
    """Write the space of a helper in torch as the folder ``out``; ``source`` is the folder it was read from.

    Raises:
        SpaceError: the folder exists, or the graph differs from torch by more than rounding.
    """
    require_free(out)
    out = Path(out)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        helper.write_files(source, part)
        say("tracing forward and backward pass (about a minute)")
        given = dict(zip((*helper.names, "direction"), example_batch(helper, helper.sample, 0), strict=True))
        external = write_graphs(helper, given, helper.free_axes(), part, part / "model.safetensors")
        external |= helper.write_phrases(part)
        say("measuring the public mean")
        center = helper.public_mean()
        _write_center(part / "center.safetensors", center)
        described = helper.describe(part)
        described["adapters"] |= {"law": "uniform, E[AA^T]=I", "generator": GENERATOR}
        # Files last, for people who read it
        files = described.pop("files")
        described |= {"sketch": SKETCH, "files": files}
        _write_space_file(part, name, described, external, sources or {}, about or {})
        say("checking the graph against torch")
        worst = check_space(read_space(part), helper)
        say(f"largest relative error {worst:.1e}")
        if not keep_weights:
            for file in ("model.safetensors", "tokenizer.json"):
                (part / file).unlink(missing_ok=True)
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return read_space(out)


def space_in_torch(space: Space) -> Authored:
    """The helper of a published space in torch, whatever it reads, from the same checked files.

    Raises:
        MissingExtra: torch is not installed.
        WeightsMissing, WeightsChanged, SpaceError: see ``torch_helper.space_torch_helper``.
    """
    if space.input == "image":
        from learndock.spaces.authoring.vision_space import space_vision_helper

        return space_vision_helper(space)
    if space.input == "generation":
        from learndock.spaces.authoring.causal_helper import space_causal_helper

        return space_causal_helper(space)
    return TextAuthored(space_torch_helper(space))


def example_batch(helper: Authored, inputs: Sequence[Input], seed: int) -> tuple[Any, ...]:
    """Arguments of ``gradients`` for real inputs and random directions."""
    import torch

    arrays = helper.encoder.pad_batch(helper.encoder(inputs))
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(len(inputs), helper.direction_width(inputs), generator=generator)
    return (*(torch.from_numpy(arrays[name]) for name in helper.names), direction)


def _write_helper_files(source: Path | None, helper: TorchHelper, out: Path) -> None:
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
            arrays = helper.encoder.pad_batch(helper.encoder(chosen[start : start + 64]))
            found = helper.features(None, *(torch.from_numpy(arrays[name]) for name in helper.names))
            total += found.numpy().sum(0)
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
        },
        "head": _table_head(helper, folder) if masked else {"prototypes": "embedding"},
        "files": {f: sha256_file(folder / f) for f in files},
    }


def _table_head(helper: TorchHelper, folder: Path) -> dict[str, str]:
    """A head whose prototypes are rows of the (tied) output embedding, a tensor of the weights file."""
    from safetensors.numpy import load_file

    table = helper.model.get_output_embeddings().weight.detach().numpy()
    for name, tensor in load_file(folder / "model.safetensors").items():
        if tensor.shape == table.shape and np.array_equal(tensor, table):
            return {"prototypes": "table", "table": name}
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


def check_space(space: Space, helper: Authored) -> float:
    """Relative error of the graph's features and gradients against torch, over several shapes: the largest.

    A helper with ``kinks`` (ReLU and its kin) has examples whose activation lies within rounding of one, where either
    side is right: of the gradients of these the median counts, and none may be further than 2% off.

    Raises:
        SpaceError: it is the helper's ``max_error`` or more.
    """
    features, gradients = [0.0], [0.0]
    for seed, inputs in enumerate(helper.trials()):
        arrays = example_batch(helper, inputs, seed)
        f, g = (v.numpy() for v in helper.gradients(*arrays))
        found = np.zeros_like(g)
        for batch in load_helper(space).gradients(inputs, arrays[-1].numpy()[:, None, :]):
            found[batch.rows] = batch.gradients
        features.append(float(np.abs(load_helper(space).features(inputs) - f).max() / np.abs(f).max()))
        gradients += list(np.abs(found - g).max(1) / np.abs(g).max())
    furthest = max(gradients)
    worst = max(*features, float(np.median(gradients[1:])) if helper.kinks else furthest)
    if not worst < helper.max_error or not furthest < MAX_KINK:
        raise SpaceError(f"space {space.name}: the exported graph differs from torch by {furthest:.1e} (relative)")
    return worst
