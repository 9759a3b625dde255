"""The text tower of a CLIP: what makes a head of label descriptions for a space of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from learndock.spaces.text import TextEncoder

if TYPE_CHECKING:
    import torch


@dataclass(eq=False)
class DescriptionTower:
    """The text tower of a CLIP: a batch of its encoder to what each description means, ``(n, width)``, unit rows."""

    model: Any
    encoder: TextEncoder
    tokenizer: bytes

    def features(
        self, ids: torch.Tensor, mask: torch.Tensor, slots: torch.Tensor, places: torch.Tensor
    ) -> torch.Tensor:
        """Text embeddings; read where the last token of each text stands."""
        import torch

        ids, length = ids[slots], slots.shape[1]
        weight = mask.to(torch.float32)
        positions = torch.arange(length)[None, :]
        later = (positions[:, None, :] > positions[:, :, None]).to(torch.float32)
        bias = (later[None] + (1 - weight)[:, None, None, :]).clamp(max=1.0) * -1e4
        hidden = self.model.text_model(input_ids=ids, attention_mask=bias, position_ids=positions).last_hidden_state
        # Where the mask sums up to the text's length for the first time
        ends = torch.eq(weight.cumsum(1) * weight, weight.sum(1, keepdim=True)).to(torch.float32)
        found = self.model.text_projection((hidden * ends[..., None]).sum(1))
        unit: torch.Tensor = found / (found * found).sum(-1, keepdim=True).sqrt()
        return unit
