"""A causal language model in torch: what a space of prompts and completions is authored from.

Any causal model that transformers loads will do, if its code takes attention from outside. The objective is the mean
log-probability of a completion's tokens, weighted by completion; the output layer, which is most of a small model's
work, sees completion positions alone. ``CausalRecipe.adapted`` may leave adapters to the later layers: the backward
pass ends where they begin.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.prompts import Prompt, ScoredPrompt
from learndock.errors import SpaceError
from learndock.files import sha256_file
from learndock.spaces.authoring.packed import Layout, laid_out
from learndock.spaces.authoring.torch_helper import (
    adapted,
    attend_compactly,
    offset,
    one_row,
    plain_output,
    probe,
    require_same,
    require_torch,
    target_layers,
)
from learndock.spaces.philox import shared_A
from learndock.spaces.prompts import WRITING, PromptEncoder, prompt_format, read_format
from learndock.spaces.space import Space

if TYPE_CHECKING:
    import torch

#: Prompts to trace and check with, each with a few completions.
SAMPLE = (
    ScoredPrompt(Prompt.of("Why do leaves fall in autumn?"), ("Trees save water in winter.", "Because of birds.")),
    ScoredPrompt(Prompt.of("2 + 3"), ("5",)),
    ScoredPrompt(
        Prompt((("system", "Answer in one word."), ("user", "The colour of snow?"))), ("white", "black", "red")
    ),
    ScoredPrompt(Prompt.of("Write the name of a river"), ("the Elbe, which is long", "no")),
)
#: The public mean is that of these words and as many more of the vocabulary, each asked about.
PUBLIC_WORDS = 512


@dataclass(frozen=True)
class CausalRecipe:
    """How a space of a causal model is to be made; everything here ends up in its id.

    ``adapted`` is the share of layers, counted from the last, that carry adapters; ``depth`` the share after which
    the feature is read; ``format`` as in ``prompts.FORMATS``, or None for what the vocabulary suggests.
    """

    rank: int = 16
    seed: int = 0
    prompt_tokens: int = 192
    completion_tokens: int = 64
    adapted: float = 0.5
    depth: float = 0.6
    format: str | None = None


@dataclass(eq=False)
class CausalHelper:
    """A causal model: the authority that an exported graph is checked against (see ``author.Authored``)."""

    model: Any
    encoder: PromptEncoder
    layers: list[tuple[str, Any]]
    A: list[torch.Tensor]
    recipe: CausalRecipe

    names = ("ids", "mask", "slots", "places", "segments", "positions", "at", "answers", "rows", "choices", "share")
    kinks = False
    #: Measured on smollm2-135m: 3.4e-4, with features equal to 3e-7 and the same without onnxruntime's optimisations;
    #: torch itself is 4e-6 from float64 there. Which operation it is has not been found. A spec's own half precision
    #: rounds as much; a graph of one layer and 480 words is within 1e-6.
    max_error = 1e-3

    @property
    def width(self) -> int:
        """Width of the features."""
        return int(self.model.config.hidden_size)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(out_features, rank) of every B, in layer order."""
        return [(layer.out_features, self.recipe.rank) for _, layer in self.layers]

    @property
    def size(self) -> int:
        """Count of numbers in the parameter vector."""
        return sum(rows * columns for rows, columns in self.shapes)

    @property
    def read_after(self) -> int:
        """The layer, counted from 1, after which the feature is read."""
        return feature_layer(self.model.config.num_hidden_layers, self.recipe.depth)

    def direction_width(self, inputs: Sequence[Any]) -> int:
        """Numbers in a direction: one weight for each completion, as many as the example with the most has."""
        return max(len(i.completions) for i in inputs)

    def features(
        self,
        B: Sequence[torch.Tensor] | None,
        ids: torch.Tensor,
        mask: torch.Tensor,
        slots: torch.Tensor,
        places: torch.Tensor,
        segments: torch.Tensor,
        positions: torch.Tensor,
        *_: torch.Tensor,
    ) -> torch.Tensor:
        """Features ``(n, width)`` of unit length: the mean state of a prompt's tokens but the first, half-way up.

        The first token is where attention rests that has nothing to look at; its state is the same in all prompts.
        """
        import torch

        layout = Layout(mask.to(torch.float32), slots, places, segments)
        middle, _last = self._run(B, ids, layout, positions)
        return self._pooled(middle, layout, positions)

    def _pooled(self, middle: torch.Tensor, layout: Layout, positions: torch.Tensor) -> torch.Tensor:
        import torch

        assert layout.segments is not None
        said = torch.eq(layout.segments, 0) & torch.gt(positions, 0)
        there = layout.mask * said[layout.slots].to(torch.float32)
        # Tokens of equal weight: the states of some are a hundred times as long as those of others
        unit = middle / (middle * middle).sum(-1, keepdim=True).sqrt()
        pooled = (layout.pad(unit) * there[..., None]).sum(1)
        found: torch.Tensor = pooled / (pooled * pooled).sum(-1, keepdim=True).sqrt()
        return found

    def _run(
        self, B: Sequence[torch.Tensor] | None, ids: torch.Tensor, layout: Layout, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States ``(tokens, width)`` half-way up, and at the end after the last norm."""
        found: list[torch.Tensor] = []

        def keep(_: Any, __: Any, output: Any) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)

        body = self.model.model
        handle = body.layers[self.read_after - 1].register_forward_hook(keep)
        try:
            with adapted(self.layers, self.A, B), laid_out(layout):
                last = body(
                    input_ids=ids[None], attention_mask=None, position_ids=positions[None], use_cache=False
                ).last_hidden_state
        finally:
            handle.remove()
        return found[0].squeeze(0), last.squeeze(0)

    def log_probabilities(
        self,
        B: Sequence[torch.Tensor] | None,
        ids: torch.Tensor,
        mask: torch.Tensor,
        slots: torch.Tensor,
        places: torch.Tensor,
        segments: torch.Tensor,
        positions: torch.Tensor,
        at: torch.Tensor,
        answers: torch.Tensor,
        *_: torch.Tensor,
    ) -> torch.Tensor:
        """Log-probability of every scored token, ``(scored,)``, under W' = W + B A."""
        import torch

        layout = Layout(mask.to(torch.float32), slots, places, segments)
        _middle, last = self._run(B, ids, layout, positions)
        return self.scored(last, at, answers)

    def scored(self, last: torch.Tensor, at: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Log-probability of ``answers`` ``(scored,)`` by the output layer, at the positions ``at`` alone."""
        logits = self.model.get_output_embeddings()(last[at])
        found: torch.Tensor = logits.gather(1, answers[:, None]).squeeze(1) - logits.logsumexp(1)
        return found

    def gradients(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        slots: torch.Tensor,
        places: torch.Tensor,
        segments: torch.Tensor,
        positions: torch.Tensor,
        at: torch.Tensor,
        answers: torch.Tensor,
        rows: torch.Tensor,
        choices: torch.Tensor,
        share: torch.Tensor,
        direction: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features ``(n, width)``, and gradients ``(n, |B|)`` at B = 0 of sum_c t_c log p(completion c | prompt).

        log p is the mean over a completion's tokens; ``direction`` t is ``(n, completions)``. How B stays out of the
        forward pass: see ``TorchHelper.gradients``.
        """
        import torch

        layout = Layout(mask.to(torch.float32), slots, places, segments)
        still = tuple(torch.zeros(1, ids.shape[0], layer.out_features) for _, layer in self.layers)

        def objective(offsets: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, tuple[Any, ...]]:
            with offset(self.layers, offsets) as entered:
                middle, last = self._run(None, ids, layout, positions)
            scores = self.scored(last, at, answers)
            return (scores * share * direction[rows, choices]).sum(), (self._pooled(middle, layout, positions), entered)

        moved, (found, entered) = torch.func.grad(objective, has_aux=True)(still)
        parts = []
        for dY, X, A in zip(moved, entered, self.A, strict=True):
            dY, low = layout.pad(dY.squeeze(0)), layout.pad((X @ A.T).squeeze(0))
            parts.append(dY.transpose(1, 2) @ (low * layout.mask[..., None]))
        return found, torch.cat([p.reshape(p.shape[0], -1) for p in parts], 1)

    # --- what authoring asks of a helper ---------------------------------------------------------------------

    @property
    def sample(self) -> list[ScoredPrompt]:
        """Inputs to trace with: as many as no axis of the helper has, so that tracing keeps them apart."""
        return list(SAMPLE * 3)[:11]

    def trials(self) -> list[list[ScoredPrompt]]:
        """Inputs to check a graph with, of several counts and lengths."""
        long = " ".join(SAMPLE[0].completions * 9)
        return [list(SAMPLE), [SAMPLE[1]], [ScoredPrompt(Prompt.of(long), ("yes", long[:150])), *SAMPLE[1:3]]]

    def free_axes(self) -> dict[str, dict[int, Any]]:
        """Which axes of the graph's inputs are free."""
        import torch

        n = torch.export.Dim("n", min=1, max=1024)
        length = torch.export.Dim("length", min=2, max=8192)
        tokens = torch.export.Dim("tokens", min=2, max=1 << 20)
        scored = torch.export.Dim("scored", min=1, max=1 << 20)
        choices = torch.export.Dim("completions", min=1, max=1024)
        axes: dict[str, dict[int, Any]] = {name: {0: tokens} for name in ("ids", "places", "segments", "positions")}
        axes |= {name: {0: n, 1: length} for name in ("mask", "slots")}
        axes |= {name: {0: scored} for name in ("at", "answers", "rows", "choices", "share")}
        return {**axes, "direction": {0: n, 1: choices}}

    def write_files(self, source: Path | None, out: Path) -> None:
        """Weights, configuration and vocabulary; the published files where they serve as they are."""
        from safetensors.torch import save_file

        config = {k: v for k, v in self.model.config.to_dict().items() if k not in _OWN}
        (out / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        if source is not None and _serves(source / "model.safetensors", self.model):
            shutil.copyfile(source / "model.safetensors", out / "model.safetensors")
        else:
            # A tied output layer is the embedding under another name
            seen: dict[int, str] = {}
            state = self.model.state_dict()
            for key, tensor in state.items():
                seen.setdefault(tensor.data_ptr(), key)
            save_file({k: state[k].contiguous().clone() for k in seen.values()}, out / "model.safetensors")
        if source is not None and (source / "tokenizer.json").is_file():
            shutil.copyfile(source / "tokenizer.json", out / "tokenizer.json")
        else:
            (out / "tokenizer.json").write_text(self.encoder.format.tokenizer.to_str(), encoding="utf-8")

    def write_phrases(self, out: Path) -> dict[str, list[str]]:
        """See ``Authored``: completions are in the one graph."""
        return {}

    def public_mean(self) -> NDArray[np.float32]:
        """Mean feature of prompts that are one word of the vocabulary each, ``(width,)``: it belongs to no task."""
        import torch

        words = sorted(self.encoder.format.tokenizer.get_vocab().items(), key=lambda item: item[1])
        plain = [w.lstrip("\u0120\u2581") for w, _ in words]
        plain = [w for w in plain if w.isascii() and w.isalpha() and len(w) > 2] or ["a", "the"]
        chosen = [plain[int(i)] for i in np.linspace(0, len(plain) - 1, min(PUBLIC_WORDS, len(plain)))]
        total = np.zeros(self.width, np.float64)
        with torch.inference_mode():
            for start in range(0, len(chosen), 32):
                arrays = self.encoder.pad_batch(self.encoder(chosen[start : start + 32]))
                found = self.features(None, *(torch.from_numpy(arrays[name]) for name in self.names))
                total += found.numpy().sum(0, dtype=np.float64)
        return (total / len(chosen)).astype(np.float32)

    def describe(self, folder: Path) -> dict[str, Any]:
        """The parts of a space's description that are this helper's."""
        files = (
            "model.safetensors", "tokenizer.json", "config.json", "features.onnx", "gradients.onnx",
            "center.safetensors",
        )  # fmt: skip
        layers = self.model.config.num_hidden_layers
        return {
            "input": "generation",
            "helper": {
                "architecture": self.model.config.model_type,
                "layers": layers,
                "width": self.width,
                "pooling": f"prompt after layer {self.read_after}",
                "depth": self.recipe.depth,
            },
            "encoder": {
                "prompt_tokens": self.encoder.prompt_tokens,
                "completion_tokens": self.encoder.completion_tokens,
                **self.encoder.format.describe(),
            },
            "adapters": {
                "targets": sorted({n.rsplit(".", 1)[-1] for n, _ in self.layers}),
                "layers": len(self.layers),
                "adapted": self.recipe.adapted,
                "rank": self.recipe.rank,
                "size": self.size,
                "seed": self.recipe.seed,
            },
            "head": {"prototypes": "completions"},
            "files": {f: sha256_file(folder / f) for f in files},
        }


_OWN = ("_name_or_path", "transformers_version", "architectures", "dtype")


def feature_layer(layers: int, depth: float) -> int:
    """The layer, counted from 1, that is ``depth`` of the way up."""
    return min(max(round(layers * depth), 1), layers)


def _serves(path: Path, model: Any) -> bool:
    """Whether a weights file has all of this model's tensors under its own names, in float32."""
    from safetensors import safe_open

    if not path.is_file():
        return False
    with safe_open(path, "numpy") as tensors:
        names = set(tensors.keys())
        whole = all(tensors.get_slice(k).get_dtype() == "F32" for k in names)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    return whole and set(model.state_dict()) - tied <= names


def is_causal(source: str | Path) -> bool:
    """Whether the model at ``source``, a folder or a name on a hub, says that it is a causal language model.

    Raises:
        SpaceError: its configuration cannot be read.
    """
    require_torch()
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise SpaceError(f"its configuration does not load ({error})", about=source) from error
    return any(str(a).endswith(WRITING) for a in config.architectures or ())


def load_causal_helper(source: str | Path, recipe: CausalRecipe) -> CausalHelper:
    """Load a causal model by hub name or folder (safetensors only, no code of its own).

    Raises:
        MissingExtra: torch or transformers is not installed.
        SpaceError: no such model, or one whose layers or attention are not known here.
    """
    require_torch()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, attn_implementation="eager", dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        ).eval()
        local = Path(source) / "tokenizer.json"
        if local.is_file():
            vocabulary = local.read_bytes()
        else:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            if not isinstance(tokenizer, PreTrainedTokenizerFast):
                raise SpaceError("has no tokenizer.json", remedy="save its fast tokenizer", about=source)
            vocabulary = tokenizer.backend_tokenizer.to_str().encode()
    except (OSError, ValueError, ImportError) as error:
        raise SpaceError(f"does not load as a causal language model ({error})", about=source) from error
    return causal_helper(model, vocabulary, recipe)


def causal_helper(model: Any, vocabulary: bytes, recipe: CausalRecipe) -> CausalHelper:
    """Wrap a loaded causal model and the bytes of its ``tokenizer.json``.

    Raises:
        SpaceError: its log-probabilities would not be those of the model.
    """
    import torch

    end = model.config.eos_token_id
    end = end[0] if isinstance(end, list) else end
    begin = model.config.bos_token_id if _begins(vocabulary, model.config.bos_token_id) else None
    found = prompt_format(vocabulary, end=end, begin=begin, name=recipe.format)
    ids = probe(model, recipe.prompt_tokens + recipe.completion_tokens)
    right = plain_output(model, ids).log_softmax(-1)[:-1].gather(1, ids[0, 1:, None]).squeeze(1)
    helper = _wrap(model, PromptEncoder(found, recipe.prompt_tokens, recipe.completion_tokens), recipe)
    places = torch.arange(ids.shape[1])
    with torch.no_grad():
        _, last = helper._run(None, ids[0], replace(one_row(ids), segments=torch.zeros_like(places)), places)
        require_same(model, helper.scored(last, places[:-1], ids[0, 1:]), right)
    return helper


def _begins(vocabulary: bytes, begin: int | None) -> bool:
    """Whether the vocabulary's own rule puts ``begin`` before a text."""
    from tokenizers import Tokenizer

    return begin is not None and Tokenizer.from_buffer(vocabulary).encode("a").ids[:1] == [begin]


def _wrap(model: Any, encoder: PromptEncoder, recipe: CausalRecipe) -> CausalHelper:
    import torch

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    body = getattr(model, "model", None)
    if body is None or not hasattr(body, "layers") or not attend_compactly(model):
        raise SpaceError(
            "its layers or its attention cannot be reached from outside",
            remedy="use a causal model of the families llama, qwen2, mistral, gemma or their kin",
            about=type(model).__name__,
        )
    total = model.config.num_hidden_layers
    first = total - feature_layer(total, recipe.adapted)
    layers = [(n, m) for n, m in target_layers(model) if _number(n) >= first]
    A = [torch.from_numpy(shared_A(recipe.seed, i, recipe.rank, m.in_features)) for i, (_, m) in enumerate(layers)]
    return CausalHelper(model, encoder, layers, A, recipe)


def _number(name: str) -> int:
    """The number of the layer that a module is in."""
    return next(int(part) for part in name.split(".") if part.isdigit())


def space_causal_helper(space: Space) -> CausalHelper:
    """The helper of a published space of prompts in torch, from the same checked files.

    Raises:
        MissingExtra: torch is not installed.
        WeightsMissing, WeightsChanged: see ``Space.read``.
        SpaceError: its architecture cannot be rebuilt here.
    """
    require_torch()
    import torch
    from safetensors.torch import load
    from transformers import AutoConfig, AutoModelForCausalLM

    described = space.description
    config = AutoConfig.for_model(**json.loads(space.read("config.json")))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    missing, _ = model.load_state_dict(load(space.read("model.safetensors")), strict=False)
    lost = [m for m in missing if m != "lm_head.weight" or not config.tie_word_embeddings]
    if lost:
        raise SpaceError(f"space {space.name}: weights of {', '.join(lost[:3])} are not in its file")
    model.tie_weights()
    said, adapters = described["encoder"], described["adapters"]
    encoder = PromptEncoder(
        read_format(space.read("tokenizer.json"), said), said["prompt_tokens"], said["completion_tokens"]
    )
    recipe = CausalRecipe(
        adapters["rank"], adapters["seed"], said["prompt_tokens"], said["completion_tokens"],
        adapters["adapted"], described["helper"]["depth"], said["format"],
    )  # fmt: skip
    return _wrap(model, encoder, recipe)
