"""EfficientNet-Lite0 in torch, from its public definition (Tan and Le 2019; the Lite variant has no squeeze-and-excite
and ReLU6): what the space ``efficientnet-lite0`` is authored from.

Written in operations that can be traced, differentiated and exported. Tensors keep the names of the published file, and
convolutions the order in which it holds them, TensorFlow's (height, width, in, out).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SIZE = 224
#: TensorFlow's models of this family were trained on (x - 127) / 128. The file names no other; of the usual ones this
#: gives the most right answers (docs/research-log.md, section 20).
MEAN, STD = 127.0, 128.0
EPSILON = 1e-3
WIDTH = 1280
#: (blocks, kernel, stride of the first, expansion, channels out) of each stage
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip


@dataclass(frozen=True)
class Block:
    """One inverted residual block: expand (1x1), depthwise (k x k), project (1x1)."""

    name: str
    kernel: int
    stride: int
    expand: bool
    residual: bool


def blocks() -> list[Block]:
    """The sixteen blocks, in order."""
    found: list[Block] = []
    entering = 32
    for count, kernel, stride, expansion, out in STAGES:
        for i in range(count):
            step = stride if i == 0 else 1
            found.append(Block(f"_blocks.{len(found)}", kernel, step, expansion > 1, step == 1 and entering == out))
            entering = out
    return found


class Depthwise(torch.autograd.Function):
    """A depthwise convolution whose backward pass is another one: exporters know no other form of it.

    Strides are undone by zeros between the gradients. The weights are frozen and get no gradient.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """``(n, c, h, w)`` with weights ``(c, 1, k, k)``, padded as TensorFlow does (SAME)."""
        return functional.conv2d(same(x, weight.shape[-1], stride), weight, None, stride, 0, 1, weight.shape[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        """Keep the weights and the place of the padding."""
        x, weight, stride = inputs
        ctx.save_for_backward(weight)
        ctx.stride, ctx.height, ctx.width = stride, int(x.shape[-2]), int(x.shape[-1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the input."""
        (weight,) = ctx.saved_tensors
        kernel, stride = weight.shape[-1], ctx.stride
        if stride > 1:
            n, c, h, w = gradient.shape
            gradient = functional.pad(gradient[:, :, :, None, :, None], (0, stride - 1, 0, 0, 0, stride - 1))
            gradient = gradient.reshape(n, c, h * stride, w * stride)
        edges: list[int] = []
        for extent, held in ((ctx.width, gradient.shape[-1]), (ctx.height, gradient.shape[-2])):
            before, _ = padding(extent, kernel, stride)
            start = kernel - 1 - before
            edges += [start, extent + kernel - 1 - held - start]
        found = functional.conv2d(functional.pad(gradient, edges), weight.flip(2, 3), None, 1, 0, 1, weight.shape[0])
        return found, None, None


def padding(extent: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, as TensorFlow's SAME puts them."""
    total = max((-(-extent // stride) - 1) * stride + kernel - extent, 0)
    return total // 2, total - total // 2


def same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """``x`` with SAME padding."""
    rows, columns = (padding(int(extent), kernel, stride) for extent in x.shape[-2:])
    return functional.pad(x, (*columns, *rows))


@dataclass(eq=False)
class EfficientNetLite0:
    """The network, on frozen tensors by name. ``targets`` are the pointwise convolutions that adapters may sit on."""

    tensors: Mapping[str, Tensor]
    targets: Sequence[str]

    def shape(self, target: str) -> tuple[int, int]:
        """(out, in) channels of a pointwise convolution."""
        entering, out = self.tensors[f"{target}.weight"].shape[2:]
        return int(out), int(entering)

    def features(self, pixels: Tensor, A: Sequence[Tensor] = (), B: Sequence[Tensor] = ()) -> Tensor:
        """Mean of the last feature map, ``(n, 1280)``, for ``(n, 224, 224, 3)`` pixels.

        Target i computes W x + B_i A_i x, with A_i ``(rank, in)`` and B_i ``(n, out, rank)``.
        """
        adapters = {t: (a, b) for t, a, b in zip(self.targets, A, B, strict=False)}
        x = (pixels.to(torch.float32).permute(0, 3, 1, 2) - MEAN) / STD
        stem = self._weight("_conv_stem")
        x = self._relu6(self._norm(functional.conv2d(same(x, 3, 2), stem, None, 2), "_bn0"))
        adapted = False
        for block in blocks():
            adapted = adapted or any(t.startswith(block.name + ".") for t in adapters)
            x = self._block(block, x, adapters, adapted)
        x = self._relu6(self._norm(self._pointwise(x, "_conv_head", adapters), "_bn1"))
        return x.mean((2, 3))

    def _block(self, block: Block, x: Tensor, adapters: Mapping[str, tuple[Tensor, Tensor]], adapted: bool) -> Tensor:
        held = x
        if block.expand:
            x = self._relu6(
                self._norm(self._pointwise(x, f"{block.name}._expand_conv", adapters), f"{block.name}._bn0")
            )
        weight = self._weight(f"{block.name}._depthwise_conv")
        # Below the first adapter nothing is differentiated
        convolve: Callable[..., Tensor] = Depthwise.apply if adapted else Depthwise.forward
        found = convolve(x, weight, block.stride)
        x = self._relu6(self._norm(found, f"{block.name}._bn1"))
        x = self._norm(self._pointwise(x, f"{block.name}._project_conv", adapters), f"{block.name}._bn2")
        return x + held if block.residual else x

    def _pointwise(self, x: Tensor, name: str, adapters: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        weight = self._weight(name)
        if name not in adapters:
            return functional.conv2d(x, weight)
        A, B = adapters[name]
        flat = x.flatten(2)
        y = weight[:, :, 0, 0] @ flat + B @ (A @ flat)
        return y.reshape(x.shape[0], y.shape[1], *x.shape[2:])

    def _weight(self, name: str) -> Tensor:
        """A convolution's weights, ``(out, in, k, k)``."""
        return self.tensors[f"{name}.weight"].permute(3, 2, 0, 1)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        t = self.tensors
        scale = t[f"{name}.weight"] / torch.sqrt(t[f"{name}.running_var"] + EPSILON)
        shift = t[f"{name}.bias"] - t[f"{name}.running_mean"] * scale
        return x * scale[:, None, None] + shift[:, None, None]

    @staticmethod
    def _relu6(x: Tensor) -> Tensor:
        return torch.clamp(x, 0.0, 6.0)


def last_pointwise(first: int) -> list[str]:
    """The pointwise convolutions of the blocks from ``first`` on, and the one behind them."""
    found = []
    for block in blocks()[first:]:
        found += [f"{block.name}._expand_conv"] if block.expand else []
        found.append(f"{block.name}._project_conv")
    return [*found, "_conv_head"]
