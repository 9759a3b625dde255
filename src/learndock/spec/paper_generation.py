"""Recipe ``paper`` for prompts and completions: B by Adam on the completions, as arXiv 2505.13425 does.

Only B is trained. The loss is the mean over a batch of -log p(completion | prompt), itself a mean over tokens. In
bfloat16 where the processor has it; deterministic for a seed on one machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from learndock.data.prompts import ScoredPrompt
from learndock.spaces.helper import Float, Progress
from learndock.spaces.space import Space
from learndock.spec.paper import PaperSettings, descend

if TYPE_CHECKING:
    import torch


def fit_completions(
    space: Space,
    asked: list[ScoredPrompt],
    *,
    settings: PaperSettings,
    seed: int = 0,
    progress: Progress | None = None,
) -> Float:
    """The fitted parameter vector, ``(|B|,)`` float32, layer by layer.

    Raises:
        MissingExtra: torch is not installed.
        ModelError: the fit left the finite numbers.
    """
    from learndock.spaces.authoring.causal_helper import space_causal_helper

    helper = space_causal_helper(space)

    def forward(B: Sequence[torch.Tensor], arrays: dict[str, torch.Tensor]) -> torch.Tensor:
        return helper.log_probabilities(B, *(arrays[name] for name in helper.names))

    def loss(scores: torch.Tensor, rows: NDArray[np.intp], arrays: dict[str, torch.Tensor]) -> torch.Tensor:
        return -(scores * arrays["share"]).sum() / len(rows)

    return descend(helper, asked, forward, loss, settings=settings, seed=seed, progress=progress)
