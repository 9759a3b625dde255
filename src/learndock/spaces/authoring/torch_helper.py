"""A helper in torch: what a space is authored from, what its graph is checked against, what ``paper`` trains.

Any encoder that transformers loads will do; nothing here branches on the values of a tensor, so that the
same forward pass can be traced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learndock.errors import MissingExtra, SpaceError
from learndock.spaces.authoring.packed import ATTENTION, Layout, laid_out, register_attention
from learndock.spaces.philox import shared_A
from learndock.spaces.space import Space
from learndock.spaces.text import TextEncoder, read_text_encoder

if TYPE_CHECKING:
    import torch

#: Largest relative difference between a helper's outputs and the model's own.
SAME = 1e-3
#: Names that attention layers give their three projections, in the families of encoders seen so far.
TARGETS = (
    ("query", "key", "value"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
    ("q_proj", "k_proj", "v_proj"),
)


@dataclass(frozen=True)
class Recipe:
    """How a space is to be made; everything here ends up in its id."""

    rank: int = 16
    seed: int = 0
    max_tokens: int = 256
    pooling: str = "mean"
    template: str | None = None


@dataclass(eq=False)
class TorchHelper:
    """A helper in torch: the authority that the exported graph is checked against.

    ``compact`` says whether its attention can go by a layout; where it cannot, the network sees padded rows.
    """

    model: Any
    encoder: TextEncoder
    layers: list[tuple[str, Any]]
    A: list[torch.Tensor]
    recipe: Recipe
    mask_token: int | None
    width: int
    compact: bool = False

    #: What the graph takes, in order, before the direction.
    names = ("ids", "mask", "slots", "places")

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(out_features, rank) of every B, in layer order."""
        return [(layer.out_features, self.recipe.rank) for _, layer in self.layers]

    @property
    def size(self) -> int:
        """Count of numbers in the parameter vector."""
        return sum(rows * columns for rows, columns in self.shapes)

    def features(
        self,
        B: Sequence[torch.Tensor] | None,
        ids: torch.Tensor,
        mask: torch.Tensor,
        slots: torch.Tensor,
        places: torch.Tensor,
    ) -> torch.Tensor:
        """Features ``(n, width)`` of unit length under W' = W + B A, for a batch as the encoder makes it.

        ``B`` are ``(out, rank)`` tensors, or None for B = 0.
        """
        import torch

        layout = Layout(mask.to(torch.float32), slots, places)
        with adapted(self.layers, self.A, B), self._captured() as captured:
            output = self._run(ids, layout)
            hidden = captured[0] if captured else output.last_hidden_state
        if self.compact:
            hidden = layout.pad(hidden.squeeze(0))
        if self.recipe.pooling == "mean":
            pooled = (hidden * layout.mask[..., None]).sum(1) / layout.mask[..., None].sum(1)
        elif self.recipe.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            at_mask = torch.eq(ids[slots], torch.tensor(self.mask_token)).to(torch.float32)
            pooled = (hidden * (at_mask * layout.mask)[..., None]).sum(1)
        unit: torch.Tensor = pooled / (pooled * pooled).sum(-1, keepdim=True).sqrt()
        return unit

    def _run(self, ids: torch.Tensor, layout: Layout) -> Any:
        import torch

        start = self.model.config.pad_token_id + 1 if _counts_from_padding(self.model) else 0
        positions = torch.arange(layout.slots.shape[1])[None] + start
        if self.compact:
            row, bias = ids[None], None
            positions = positions.expand_as(layout.slots).flatten()[layout.places][None]
        else:
            row, bias = ids[layout.slots], layout.bias
        given: dict[str, Any] = {"input_ids": row, "attention_mask": bias}
        if getattr(self.model.config, "position_embedding_type", "absolute") is not None:
            given["position_ids"] = positions
        if getattr(self.model.config, "type_vocab_size", 0):
            given["token_type_ids"] = torch.zeros_like(row)
        with laid_out(layout):
            return self.model(**given)

    def gradients(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        slots: torch.Tensor,
        places: torch.Tensor,
        direction: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features ``(n, width)`` and gradients ``(n, |B|)`` of <f(x), t> at B = 0, for ``direction`` t.

        B has no part in the forward pass: at B = 0 the gradient of an example is dY^T (X A^T) with dY that of the
        layer's output Y, so an offset of Y is what is differentiated by, and the adapters cost one product a layer.
        """
        import torch

        layout = Layout(mask.to(torch.float32), slots, places)
        shape = (1, *ids.shape) if self.compact else tuple(slots.shape)
        still = tuple(torch.zeros(*shape, layer.out_features) for _, layer in self.layers)

        def objective(offsets: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, tuple[Any, ...]]:
            with offset(self.layers, offsets) as entered:
                found = self.features(None, ids, mask, slots, places)
            return (found * direction).sum(), (found, entered)

        moved, (found, entered) = torch.func.grad(objective, has_aux=True)(still)
        parts = []
        for dY, X, A in zip(moved, entered, self.A, strict=True):
            low = X @ A.T
            if self.compact:
                dY, low = layout.pad(dY.squeeze(0)), layout.pad(low.squeeze(0))
            parts.append(dY.transpose(1, 2) @ (low * layout.mask[..., None]))
        return found, torch.cat([p.reshape(p.shape[0], -1) for p in parts], 1)

    @contextmanager
    def _captured(self) -> Iterator[list[Any]]:
        """What enters the output embedding of a masked LM: its transformed hidden states."""
        found: list[Any] = []
        if self.recipe.pooling != "mask":
            yield found
            return
        handle = self.model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
        try:
            yield found
        finally:
            handle.remove()


@contextmanager
def offset(layers: Sequence[tuple[str, Any]], offsets: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Add ``offsets`` ``(n, tokens, out)`` to the layers' outputs; gives what enters the layers."""
    entered: list[torch.Tensor] = []

    def hook(added: torch.Tensor) -> Callable[..., torch.Tensor]:
        def add(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            entered.append(inputs[0])
            return output + added

        return add

    handles = [layer.register_forward_hook(hook(o)) for (_, layer), o in zip(layers, offsets, strict=True)]
    try:
        yield entered
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def adapted(
    layers: Sequence[tuple[str, Any]], A: Sequence[torch.Tensor], B: Sequence[torch.Tensor] | None
) -> Iterator[None]:
    """The layers under W' = W + B A; None is B = 0."""
    handles = []
    for (_, layer), down, part in zip(layers, A, B or (), strict=False):
        handles.append(layer.register_forward_hook(_add_adapter(down, part)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def token_axes(longest: int, n: Any = None) -> dict[str, dict[int, Any]]:
    """The free axes of what a text encoder gives: numbers of examples ``n`` and of tokens, and the longest length."""
    import torch

    n = n or torch.export.Dim("n", min=1, max=4096)
    length = torch.export.Dim("length", min=2, max=longest)
    tokens = torch.export.Dim("tokens", min=2, max=4096 * longest)
    laid_out = {0: n, 1: length}
    return {"ids": {0: tokens}, "mask": laid_out, "slots": laid_out, "places": {0: tokens}}


def _add_adapter(A: torch.Tensor, B: torch.Tensor) -> Callable[..., torch.Tensor]:
    def hook(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output + (inputs[0] @ A.T) @ B.transpose(-1, -2)

    return hook


def _counts_from_padding(model: Any) -> bool:
    """RoBERTa and its kin number positions from the padding id on."""
    return "roberta" in model.config.model_type or model.config.model_type in ("camembert", "mpnet")


def require_torch() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"authoring a space needs torch ({error})", remedy='pip install "learndock[torch]"'
        ) from None


def load_torch_helper(source: str | Path, recipe: Recipe) -> TorchHelper:
    """Load an encoder by hub name or folder (safetensors only, no code of its own).

    Raises:
        MissingExtra: torch or transformers is not installed.
        SpaceError: no such encoder, or one whose attention layers are not known here.
    """
    require_torch()
    import torch
    from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

    loader = AutoModelForMaskedLM if recipe.pooling == "mask" else AutoModel
    try:
        model = loader.from_pretrained(
            source,
            attn_implementation="eager",
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
        ).eval()
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise SpaceError(f"does not load as an encoder ({error})", about=source) from error
    return torch_helper(model, tokenizer, recipe)


def torch_helper(model: Any, tokenizer: Any, recipe: Recipe) -> TorchHelper:
    """Wrap a loaded encoder and its (fast) tokenizer."""
    import torch

    encoder = read_text_encoder(
        tokenizer.backend_tokenizer.to_str().encode(),
        max_tokens=recipe.max_tokens,
        pad=tokenizer.pad_token_id,
        template=recipe.template.replace("<mask>", tokenizer.mask_token) if recipe.template else None,
    )
    ids = probe(model, encoder.max_tokens)
    try:
        right = plain_output(model, ids)
        helper = _wrap(model, encoder, recipe, tokenizer.mask_token_id)
        with torch.no_grad():
            found = helper._run(ids[0], one_row(ids))[0].squeeze(0)
    except (IndexError, RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        text = " ".join(str(error).split())[:200]
        raise SpaceError(
            f"{type(model).__name__}: does not run as a helper ({text})", remedy="use another encoder"
        ) from error
    require_same(model, found, right)
    return helper


def probe(model: Any, length: int) -> torch.Tensor:
    """Ids ``(1, length)`` of one text as long as the space reads, or the model: none is the token of padding."""
    import torch

    config = model.config
    pad = getattr(config, "pad_token_id", None)
    longest = int(getattr(config, "max_position_embeddings", None) or length) - (pad or 0) - 2
    words = [i for i in range(min(config.vocab_size, 1000)) if i != pad]
    return torch.tensor([(words * length)[: max(min(length, longest), 2)]])


def plain_output(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """What the model puts out for one text ``(length, ...)``, by transformers' code; before attention is replaced."""
    import torch

    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0].squeeze(0)
    return found


def one_row(ids: torch.Tensor) -> Layout:
    """The layout of one text ``(1, length)``."""
    import torch

    places = torch.arange(ids.shape[1])
    return Layout(torch.ones(ids.shape), places[None], places)


def require_same(model: Any, found: torch.Tensor, right: torch.Tensor) -> None:
    """Refuse a model that does more than this room's attention and heads do, such as attention in windows.

    Raises:
        SpaceError: the output of the helper is not that of the model.
    """
    error = float((found - right).norm() / right.norm())
    if not error < SAME:
        raise SpaceError(
            f"{type(model).__name__}: as a helper it would put out other numbers than by transformers (relative error "
            f"{error:.1e}): it has attention in windows or with a cap, scaled outputs, or the like",
            remedy="use a model with plain attention, or a space that reads fewer tokens than its window",
        )


def _wrap(model: Any, encoder: TextEncoder, recipe: Recipe, mask_token: int | None) -> TorchHelper:
    import torch

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    layers = target_layers(model)
    A = [
        torch.from_numpy(shared_A(recipe.seed, i, recipe.rank, layer.in_features))
        for i, (_, layer) in enumerate(layers)
    ]
    return TorchHelper(model, encoder, layers, A, recipe, mask_token, model.config.hidden_size, attend_compactly(model))


def attend_compactly(model: Any) -> bool:
    """Give the model compact attention if its code takes attention from outside; returns whether it does."""
    if not type(model)._supports_attention_backend:
        return False
    register_attention()
    model.set_attn_implementation(ATTENTION)
    return True


def target_layers(model: Any) -> list[tuple[str, Any]]:
    """The query, key and value projections, in layer order.

    Raises:
        SpaceError: none of the known names occurs.
    """
    import torch

    linear = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    for names in TARGETS:
        found = [(n, m) for n, m in linear if n.rsplit(".", 1)[-1] in names]
        if found:
            return found
    kinds = sorted({n.rsplit(".", 1)[-1] for n, _ in linear})
    raise SpaceError(f"no query, key and value projections found; its linear layers are called {kinds}")


def space_torch_helper(space: Space) -> TorchHelper:
    """The helper of a published space in torch, from the same checked files.

    Raises:
        MissingExtra: torch is not installed.
        WeightsMissing, WeightsChanged: see ``Space.read``.
        SpaceError: its architecture cannot be rebuilt here.
    """
    require_torch()
    import torch
    from safetensors.torch import load
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

    described = space.description
    masked = described["helper"]["pooling"] == "mask"
    config = AutoConfig.for_model(**json.loads(space.read("config.json")))
    loader = AutoModelForMaskedLM if masked else AutoModel
    model = loader.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    missing, _ = model.load_state_dict(load(space.read("model.safetensors")), strict=False)
    lost = [m for m in missing if "position_ids" not in m and "pooler" not in m and "decoder" not in m]
    if lost:
        raise SpaceError(f"space {space.name}: weights of {', '.join(lost[:3])} are not in its file")
    encoder = read_text_encoder(
        space.read("tokenizer.json"),
        max_tokens=described["encoder"]["max_tokens"],
        pad=described["encoder"]["pad"],
        template=described["encoder"]["template"],
    )
    adapters = described["adapters"]
    recipe = Recipe(
        adapters["rank"], adapters["seed"], encoder.max_tokens, described["helper"]["pooling"], encoder.template
    )
    return _wrap(model, encoder, recipe, described["encoder"]["mask"])
