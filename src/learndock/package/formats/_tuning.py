"""Tune a classifier in torch further: its output layer arranged for the new labels, and the training itself.

Shared by the transformers, the PEFT and the timm format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import ModelError
from learndock.package.columns import by_name
from learndock.package.formats import Progress
from learndock.package.formats._loading import NO_PADDING, forward, in_head
from learndock.package.formats._pixels import Pixels
from learndock.package.formats._tokens import TextTokens


@dataclass(frozen=True)
class Plan:
    """How a model is tuned: AdamW, a linear warm-up, then linearly down to nothing."""

    rate: float
    """For an output layer that is kept: the model knows the task, and large steps only spoil it."""
    fresh: float
    """For a new output layer: the layers below have a new task to learn."""
    head: float
    """For the new output layer itself."""
    epochs: int = 20
    batch: int = 8
    steps: int = 1_500
    warm_up: float = 0.1
    enough: float = 0.02
    """Training ends after an epoch whose mean loss is below this."""


def final_layer(network: Any, outputs: int) -> Any:
    """The last linear layer of the head, which puts out ``outputs`` columns.

    Raises:
        ModelError: there is none that this code knows.
    """
    import torch

    found = None
    for name, module in network.named_modules():
        inside = in_head(name) and ".original_module" not in name
        if inside and isinstance(module, torch.nn.Linear) and module.out_features == outputs:
            found = module
    if found is None:
        raise ModelError(
            "the model's output layer was not found", remedy="only heads of plain linear layers can be tuned"
        )
    return found


def column_names(schema: Schema) -> tuple[str, ...]:
    """Return the names of the columns of a model for ``schema``; for regression the ends of the scale."""
    return schema.labels or ("value",)


def own_names(schema: Schema, columns: Sequence[int]) -> list[str]:
    """What the columns of a model of ``schema`` are called, in their order; ``columns`` holds the column per label."""
    if schema.type == "regression":
        return list(column_names(schema))
    return [label for _, label in sorted(zip(columns, schema.labels, strict=True))]


def arrange_head(layer: Any, own: Sequence[str], target: Schema, spread: float) -> bool:
    """Give an output layer the columns of ``target``, in its order; return whether they start from new weights.

    ``own`` are the names of its columns (see ``own_names``). Columns of the same names are kept and put in order; with
    any other name all start from new weights of the deviation ``spread``.
    """
    import torch

    order = by_name(own, column_names(target))
    fresh = order is None
    with torch.no_grad():
        if fresh:
            layer.weight.normal_(0.0, spread)
            if layer.bias is not None:
                layer.bias.zero_()
        elif target.type == "classification":
            layer.weight.copy_(layer.weight[order].clone())
            if layer.bias is not None:
                layer.bias.copy_(layer.bias[order].clone())
    return fresh


def tune(
    network: Any,
    tokens: TextTokens | Pixels,
    examples: Examples,
    target: Schema,
    layer: Any,
    plan: Plan,
    *,
    fresh: bool,
    seed: int,
    progress: Progress | None = None,
) -> float:
    """Train the parameters of ``network`` that ask for gradients; return the last epoch's mean loss.

    For regression the output layer works in units of the targets' spread around their mean while it is
    trained; a ``fresh`` one starts at that mean.

    Raises:
        ModelError: there is nothing to learn from, or the loss is no longer a number.
    """
    import torch

    targets = _targets(examples, target)
    config: Any = getattr(network, "config", None)
    if isinstance(tokens, TextTokens) and config.pad_token_id == NO_PADDING:
        config.pad_token_id = tokens.pad_id  # training pads its batches, and the model must know by what
    scale = _Scale.of(targets) if target.type == "regression" and layer.bias is not None else _Scale(0.0, 1.0)
    values = torch.from_numpy(scale.reduced(targets) if target.type == "regression" else targets)
    encodings: Any = tokens.encode(examples.inputs)
    n = len(encodings)
    per_epoch = math.ceil(n / plan.batch)
    epochs = max(1, min(plan.epochs, plan.steps // per_epoch))
    total = epochs * per_epoch
    parameters = [p for p in network.parameters() if p.requires_grad]
    new = {id(p) for p in layer.parameters()} if fresh else set()
    groups = [
        {"params": [p for p in parameters if id(p) not in new], "lr": plan.fresh if fresh else plan.rate},
        {"params": [p for p in parameters if id(p) in new], "lr": plan.head},
    ]
    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=0.01)
    warm = max(1, round(plan.warm_up * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, (total - step) / max(1, total - warm))
    )
    loss_of = _loss(target)
    order = np.random.default_rng(seed)
    mean = math.inf
    if not fresh:
        scale.into(layer)
    network.train()
    for module in network.modules():
        # Means and deviations over a batch of eight images are noise, over one they are nothing: the model's own stay
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    for epoch in range(epochs):
        losses: list[float] = []
        shuffled = order.permutation(n)
        for start in range(0, n, plan.batch):
            batch = tokens.batch(encodings, [int(i) for i in shuffled[start : start + plan.batch]])
            loss = loss_of(forward(network, batch), values[torch.from_numpy(batch.rows)])
            if not torch.isfinite(loss):
                raise ModelError("tuning diverged (the loss is not a finite number)", remedy="check the targets")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()) * len(batch.rows))
        mean = sum(losses) / n
        if progress is not None:
            progress((epoch + 1) * per_epoch, total)
        if mean < plan.enough:
            break
    network.eval()
    scale.out_of(layer)
    if progress is not None:
        progress(total, total)
    return mean


def _targets(examples: Examples, target: Schema) -> NDArray[Any]:
    if examples.targets is None or not len(examples):
        raise ModelError("tuning needs examples with labels", about=examples.source)
    if target.type == "regression":
        return np.asarray(examples.targets, dtype=np.float32)
    return np.asarray(examples.targets, dtype=np.int64)


def _loss(target: Schema) -> Any:
    import torch

    if target.type == "regression":
        return lambda outputs, values: torch.nn.functional.mse_loss(outputs[:, 0], values)
    return torch.nn.functional.cross_entropy


@dataclass(frozen=True)
class _Scale:
    """Mean and spread of regression targets, folded into the output layer and out again."""

    mean: float
    spread: float

    @classmethod
    def of(cls, targets: NDArray[Any]) -> _Scale:
        spread = float(targets.std())
        return cls(float(targets.mean()), spread if spread > 1e-6 else 1.0)

    def reduced(self, targets: NDArray[Any]) -> NDArray[Any]:
        """The targets in units of their spread."""
        return (targets - np.float32(self.mean)) / np.float32(self.spread)

    def into(self, layer: Any) -> None:
        import torch

        with torch.no_grad():
            layer.weight.div_(self.spread)
            if layer.bias is not None:
                layer.bias.sub_(self.mean).div_(self.spread)

    def out_of(self, layer: Any) -> None:
        import torch

        with torch.no_grad():
            layer.weight.mul_(self.spread)
            if layer.bias is not None:
                layer.bias.mul_(self.spread).add_(self.mean)
