"""Vision encoders of transformers as helpers: CLIP and its kin, and plain ones such as ViT, DINOv2 or ConvNeXt.

Of a CLIP the image tower is adapted and gives the features; the text tower gives the head, what descriptions mean, as a
third graph of the space. The papers adapt both towers. In one pass the directions are fixed, so that nothing an image
says moves the text tower: its part of B would be zero and is left out (``paper_size`` counts both).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learndock.errors import SpaceError
from learndock.spaces.authoring.description_tower import DescriptionTower
from learndock.spaces.authoring.torch_helper import TARGETS, Recipe, require_torch
from learndock.spaces.authoring.vision_helper import VisionHelper
from learndock.spaces.images import ImageEncoder
from learndock.spaces.philox import shared_A
from learndock.spaces.text import read_text_encoder

if TYPE_CHECKING:
    import torch

KIND = "transformers"
#: The papers' layers of CLIP: out_proj, c_fc and c_proj, as transformers calls them.
CLIP_TARGETS = ("out_proj", "fc1", "fc2")
_TARGETS = (*TARGETS, ("pwconv1", "pwconv2"))
_OWN = ("_name_or_path", "transformers_version", "architectures", "dtype")


def is_vision(source: str | Path) -> bool:
    """Whether a folder or hub name is an encoder of images, by its configuration.

    Raises:
        MissingExtra: torch or transformers is not installed. SpaceError: there is no such encoder.
    """
    require_torch()
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise SpaceError(f"does not load as an encoder ({error})", about=source) from error
    return hasattr(config, "vision_config") or hasattr(config, "num_channels")


def load_vision_transformer(source: str | Path, recipe: Recipe) -> VisionHelper:
    """Load a vision encoder by hub name or folder (safetensors only, no code of its own).

    Raises:
        MissingExtra: torch or transformers is not installed.
        SpaceError: no such encoder, or one whose layers are not known here.
    """
    require_torch()
    import torch
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    try:
        model = AutoModel.from_pretrained(
            source, attn_implementation="eager", dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        ).eval()
        processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False) if _is_clip(model) else None
    except (OSError, ValueError, ImportError) as error:
        raise SpaceError(f"does not load as an encoder of images ({error})", about=source) from error
    vision = getattr(model.config, "vision_config", model.config)
    size = getattr(vision, "image_size", None) or (getattr(processor, "size", None) or {}).get("height") or 224
    config = model.config.to_dict()
    settings = {
        "model_type": KIND,
        "rank": recipe.rank,
        "seed": recipe.seed,
        "pooling": recipe.pooling,
        "size": int(size if isinstance(size, int) else size[0]),
        "mean": list(processor.image_mean or [0.5] * 3),
        "deviation": list(processor.image_std or [0.5] * 3),
        "max_tokens": min(recipe.max_tokens, getattr(model.config.text_config, "max_position_embeddings", 77))
        if tokenizer is not None
        else 0,
        "model": {k: v for k, v in config.items() if k not in _OWN},
    }
    text = None if tokenizer is None else tokenizer.backend_tokenizer.to_str().encode()
    return vision_transformer(model, settings, text, tokenizer.pad_token_id if tokenizer is not None else 0)


def rebuild(
    tensors: dict[str, torch.Tensor], settings: dict[str, Any], tokenizer: bytes | None, pad: int
) -> VisionHelper:
    """Build the helper from a space's files.

    Raises:
        SpaceError: tensors are missing.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    described = dict(settings["model"])
    config = AutoConfig.for_model(described.pop("model_type"), **described)
    model = AutoModel.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    missing, _ = model.load_state_dict(tensors, strict=False)
    if lost := [m for m in missing if "position_ids" not in m]:
        raise SpaceError(f"weights of {', '.join(lost[:3])} are not in the space's file")
    return vision_transformer(model, settings, tokenizer, pad)


def vision_transformer(model: Any, settings: dict[str, Any], tokenizer: bytes | None, pad: int) -> VisionHelper:
    """Wrap a loaded encoder.

    Raises:
        SpaceError: its layers are not known here.
    """
    import torch

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    rank, seed = settings["rank"], settings["seed"]
    body = _Body(model, settings)
    shapes = [(layer.out_features, rank) for _, layer in body.layers]
    A = [torch.from_numpy(shared_A(seed, i, rank, layer.in_features)) for i, (_, layer) in enumerate(body.layers)]
    descriptions = None
    if tokenizer is not None:
        encoder = read_text_encoder(tokenizer, max_tokens=settings["max_tokens"], pad=pad, template=None)
        descriptions = DescriptionTower(model, encoder, tokenizer)
    vision = getattr(model.config, "vision_config", model.config)
    return VisionHelper(
        body, ImageEncoder(settings["size"]), [n for n, _ in body.layers], A, shapes, body.width(), rank, seed,
        _unique(model.state_dict()), settings, kinks="relu" in str(getattr(vision, "hidden_act", "")),
        descriptions=descriptions,
    )  # fmt: skip


def paper_size(config: Any, rank: int = 16) -> int:
    """Count of numbers in B as the papers adapt a CLIP: out_proj, c_fc and c_proj of both towers; builds no weights."""
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        model = AutoModel.from_config(config)
    return sum(layer.out_features * rank for _, layer in _linear(model, CLIP_TARGETS))


@dataclass(eq=False)
class _Body:
    """``(pixels, A, B)`` to features of any length."""

    model: Any
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        self.layers = _vision_layers(self.model)

    def width(self) -> int:
        """Width of the features."""
        import torch

        size = self.settings["size"]
        with torch.inference_mode():
            return int(self(torch.zeros(1, size, size, 3, dtype=torch.uint8), (), ()).shape[1])

    def __call__(self, pixels: torch.Tensor, A: Sequence[torch.Tensor], B: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        mean, deviation = (torch.tensor(self.settings[k])[:, None, None] for k in ("mean", "deviation"))
        x = (pixels.to(torch.float32).permute(0, 3, 1, 2) / 255 - mean) / deviation
        with self._adapted(A, B):
            if _is_clip(self.model):
                pooled = self.model.vision_model(pixel_values=x).pooler_output
                projected: torch.Tensor = self.model.visual_projection(pooled)
                return projected
            tower = getattr(self.model, "vision_model", self.model)
            hidden: torch.Tensor = tower(pixel_values=x).last_hidden_state
        if hidden.ndim == 4:
            return hidden.mean((2, 3))
        return hidden[:, 0] if self.settings["pooling"] == "cls" else hidden.mean(1)

    @contextmanager
    def _adapted(self, A: Sequence[torch.Tensor], B: Sequence[torch.Tensor]) -> Iterator[None]:
        handles = [
            layer.register_forward_hook(_adapter(a, b)) for (_, layer), a, b in zip(self.layers, A, B, strict=False)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _adapter(A: torch.Tensor, B: torch.Tensor) -> Callable[..., torch.Tensor]:
    def hook(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        x = inputs[0]
        # One B an example, over however many axes of places there are between
        per_example = B.reshape(B.shape[0], *(1,) * (x.ndim - 3), *B.shape[1:]) if B.ndim == 3 else B
        return output + (x @ A.T) @ per_example.transpose(-1, -2)

    return hook


def _is_clip(model: Any) -> bool:
    return all(hasattr(model, part) for part in ("vision_model", "text_model", "visual_projection", "text_projection"))


def _vision_layers(model: Any) -> list[tuple[str, Any]]:
    """The layers that adapters sit on, in order.

    Raises:
        SpaceError: none of the known names occurs.
    """
    tower = getattr(model, "vision_model", model)
    for names in (CLIP_TARGETS, *_TARGETS) if _is_clip(model) else _TARGETS:
        if found := _linear(tower, names):
            return found
    import torch

    kinds = sorted({n.rsplit(".", 1)[-1] for n, m in tower.named_modules() if isinstance(m, torch.nn.Linear)})
    raise SpaceError(f"no layers to adapt were found; the linear layers of this encoder are called {kinds}")


def _linear(model: Any, names: Sequence[str]) -> list[tuple[str, Any]]:
    import torch

    return [
        (n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n.rsplit(".", 1)[-1] in names
    ]


def _unique(state: dict[str, Any]) -> dict[str, Any]:
    """A state without second names of one tensor."""
    seen: dict[int, str] = {}
    for key, tensor in state.items():
        seen.setdefault(tensor.data_ptr(), key)
    return {k: state[k] for k in seen.values()}
