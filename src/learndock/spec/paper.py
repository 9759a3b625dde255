"""Recipe ``paper``: fit B with Adam, as the papers do (arXiv 2505.13425 and the PAVE study), on the same space.

Only B is trained; A, the helper and the head stay. Loss: cross-entropy of scale * <f(x; B), g_c> against the
model's probabilities or the user's labels; for regression, squared error of the place on the scale. Batches are
of similar length, and in bfloat16 where the processor has it. Deterministic for a seed on one machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.schema import Schema
from learndock.errors import ModelError, UsageError
from learndock.spaces.heads import HeadName, Prototypes, make_prototypes
from learndock.spaces.helper import Float, Progress
from learndock.spaces.space import Space
from learndock.spec.onepass import indicators

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PaperSettings:
    """The papers' settings for text; ``scale`` is the temperature of the head.

    Raises:
        UsageError: one that must be positive is not.
    """

    steps: int = 300
    learning_rate: float = 2e-5
    batch: int = 8
    scale: float = 20.0
    bfloat16: bool | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate", "batch", "scale"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}", remedy="it must be above 0")

    def to_dict(self) -> dict[str, Any]:
        """For the spec's settings."""
        return asdict(self)


def fit(
    space: Space,
    schema: Schema,
    inputs: list[Input],
    targets: NDArray[Any],
    *,
    head: HeadName,
    settings: PaperSettings,
    seed: int = 0,
    progress: Progress | None = None,
) -> Float:
    """The fitted parameter vector, ``(|B|,)`` float32, layer by layer.

    Raises:
        MissingExtra: torch is not installed.
        ModelError: the fit left the finite numbers.
    """
    from learndock.spaces.authoring.author import space_in_torch

    helper = space_in_torch(space)
    import torch

    belonging = indicators(schema, targets)
    prototypes = make_prototypes(space, schema, inputs, belonging, head)
    soft_labels = torch.from_numpy(belonging.astype(np.float32))

    def forward(B: Sequence[torch.Tensor], arrays: dict[str, torch.Tensor]) -> torch.Tensor:
        return helper.features(B, *(arrays[name] for name in helper.names))

    def loss(found: torch.Tensor, rows: NDArray[np.intp], _: dict[str, torch.Tensor]) -> torch.Tensor:
        return _loss(schema, found, _points(prototypes, rows), soft_labels[torch.from_numpy(rows)], settings.scale)

    return descend(helper, inputs, forward, loss, settings=settings, seed=seed, progress=progress)


def descend(
    helper: Any,
    inputs: Sequence[Any],
    forward: Callable[[Sequence[torch.Tensor], dict[str, torch.Tensor]], torch.Tensor],
    loss: Callable[[torch.Tensor, NDArray[np.intp], dict[str, torch.Tensor]], torch.Tensor],
    *,
    settings: PaperSettings,
    seed: int,
    progress: Progress | None,
) -> Float:
    """B by Adam from zero, as the parameter vector ``(|B|,)`` float32.

    ``forward(B, batch)`` runs in bfloat16 where that is asked for, ``loss(found, rows, batch)`` never does.

    Raises:
        ModelError: the fit left the finite numbers.
    """
    import torch

    encoded = helper.encoder(inputs)
    B = [torch.zeros(shape, requires_grad=True) for shape in helper.shapes]
    optimiser = torch.optim.Adam(B, lr=settings.learning_rate)
    half = _has_bfloat16() if settings.bfloat16 is None else settings.bfloat16
    for step, rows in enumerate(steps([len(e) for e in encoded], settings, seed)):
        batch = helper.encoder.pad_batch([encoded[i] for i in rows])
        arrays = {name: torch.from_numpy(array) for name, array in batch.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found = forward(B, arrays)
        optimiser.zero_grad()
        loss(found.float(), rows, arrays).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if progress:
            progress(step + 1, settings.steps)
    vector = np.concatenate([b.detach().numpy().ravel() for b in B]).astype(np.float32)
    if not np.isfinite(vector).all() or not vector.any():
        raise ModelError("the fit gave no finite parameter vector", remedy="lower the learning rate")
    return vector


def _points(prototypes: Prototypes, rows: NDArray[np.intp]) -> torch.Tensor:
    """Prototypes of a batch, ``(b, columns, width)``."""
    import torch

    return torch.from_numpy(np.stack([prototypes.of(column, rows) for column in range(prototypes.columns)], 1))


def _loss(
    schema: Schema, features: torch.Tensor, points: torch.Tensor, soft_labels: torch.Tensor, scale: float
) -> torch.Tensor:
    import torch

    logits = scale * torch.einsum("bd,bcd->bc", features, points)
    if schema.type == "classification":
        return torch.nn.functional.cross_entropy(logits, soft_labels)
    place = logits[:, 1] - logits[:, 0]
    return torch.nn.functional.mse_loss(place, soft_labels[:, 1] - soft_labels[:, 0])


def steps(lengths: list[int], settings: PaperSettings, seed: int) -> list[NDArray[np.intp]]:
    """Batches for every step: each pass takes all examples, of similar length together, in random order."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 41]))
    found: list[NDArray[np.intp]] = []
    while len(found) < settings.steps:
        jitter = generator.random(len(lengths)) * 4
        order = np.argsort(np.asarray(lengths) + jitter, kind="stable")
        pieces = [order[i : i + settings.batch] for i in range(0, len(order), settings.batch)]
        found += [pieces[int(i)] for i in generator.permutation(len(pieces))]
    return found[: settings.steps]


def _has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; where it does not, autocast is slower than float32."""
    import torch

    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
