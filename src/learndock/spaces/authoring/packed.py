"""Texts without padding: the tokens of a batch side by side, and laid out by example only where attention needs it.

Half of a batch of short texts can be padding, which linear layers would multiply like words. So the network sees one
row of all ``tokens``; attention, and whatever else goes by example, sees ``(n, length, ...)`` by way of two
gathers, each the other's transpose, so that no pass scatters:

    pad     (tokens, ...) -> (n, length, ...)   by ``slots``; what is in empty places must be masked
    unpad   (n, length, ...) -> (tokens, ...)   by ``places``
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Name under which attention over compact tokens is known to transformers.
ATTENTION = "learndock_compact"


@dataclass(frozen=True, eq=False)
class Layout:
    """Where tokens are: ``mask`` ``(n, length)`` float, ``slots`` ``(n, length)``, ``places`` ``(tokens,)``.

    With ``segments`` ``(tokens,)`` attention looks backwards only: at segment 0, which is a prompt, and at its own.
    """

    mask: torch.Tensor
    slots: torch.Tensor
    places: torch.Tensor
    segments: torch.Tensor | None = None

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """``(tokens, ...)`` as ``(n, length, ...)``; empty places hold what the first token has."""
        found: torch.Tensor = _moves()[0].apply(x, self.slots, self.places)
        return found

    def unpad(self, y: torch.Tensor) -> torch.Tensor:
        """``(n, length, ...)`` as ``(tokens, ...)``."""
        found: torch.Tensor = _moves()[1].apply(y, self.mask, self.slots, self.places)
        return found

    @property
    def bias(self) -> torch.Tensor:
        """What is added to attention scores, ``(n, 1, 1 or length, length)``: library mask code branches on data."""
        if self.segments is None:
            return (1 - self.mask)[:, None, None, :] * -1e4
        import torch

        segment = self.segments[self.slots]
        own = torch.eq(segment[:, None, :], segment[:, :, None]) | torch.eq(segment, 0)[:, None, :]
        place = torch.arange(self.slots.shape[1])
        seen = own & torch.le(place[None, :], place[:, None])
        return (1 - seen.to(self.mask.dtype) * self.mask[:, None, :])[:, None] * -1e4


_LAYOUT: ContextVar[Layout] = ContextVar("layout")


@contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """Attention inside goes by ``layout``."""
    token = _LAYOUT.set(layout)
    try:
        yield
    finally:
        _LAYOUT.reset(token)


@cache
def register_attention() -> None:
    """Make compact attention known to transformers (once)."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attention)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Softmax attention ``(1, heads, tokens, d)`` -> ``(1, tokens, heads, d)``, each example over its own tokens."""
    layout = _LAYOUT.get()
    q, k, v = (layout.pad(x.transpose(1, 2).squeeze(0)).permute(0, 2, 1, 3) for x in (query, key, value))
    if shared := q.shape[1] // k.shape[1] - 1:
        # Several heads of queries share one of keys and values
        k, v = (x.repeat_interleave(shared + 1, dim=1) for x in (k, v))
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    scores = q @ k.transpose(-1, -2) * scale + layout.bias.to(q.dtype)
    mixed = scores.softmax(-1) @ v
    return layout.unpad(mixed.permute(0, 2, 1, 3))[None], None


def _rows(x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """``x[numbers]``, in the form that becomes one plain Gather."""
    return x.index_select(0, numbers.reshape(-1)).reshape(*numbers.shape, *x.shape[1:])


@cache
def _moves() -> tuple[Any, Any]:
    import torch

    class Pad(torch.autograd.Function):
        @staticmethod
        def forward(x: Any, slots: Any, places: Any) -> Any:
            return _rows(x, slots)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(inputs[2])

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            (places,) = ctx.saved_tensors
            return _rows(gradients[0].flatten(0, 1), places), None, None

    class Unpad(torch.autograd.Function):
        @staticmethod
        def forward(y: Any, mask: Any, slots: Any, places: Any) -> Any:
            return _rows(y.flatten(0, 1), places)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(inputs[1], inputs[2])

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            mask, slots = ctx.saved_tensors
            (gradient,) = gradients
            there = mask.reshape(*mask.shape, *(1,) * (gradient.dim() - 1)).to(gradient.dtype)
            return _rows(gradient, slots) * there, None, None, None

    return Pad, Unpad
