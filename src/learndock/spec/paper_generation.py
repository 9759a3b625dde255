"""Recipe ``paper`` for prompts and completions: B by Adam on the completions, as arXiv 2505.13425 does.

Only B is trained. The loss is the mean over a batch of -log p(completion | prompt), itself a mean over tokens. In
bfloat16 where the processor has it; deterministic for a seed on one machine.
"""

from __future__ import annotations

import numpy as np

from learndock.data.prompts import Asked
from learndock.errors import ModelError
from learndock.spaces.helper import Float, Progress
from learndock.spaces.space import Space
from learndock.spec.paper import PaperSettings, has_bfloat16, steps


def fit_completions(
    space: Space,
    asked: list[Asked],
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
    from learndock.spaces.causal_helper import space_causal_helper

    helper = space_causal_helper(space)
    import torch

    encoded = helper.encoder(asked)
    B = [torch.zeros(shape, requires_grad=True) for shape in helper.shapes]
    optimiser = torch.optim.Adam(B, lr=settings.learning_rate)
    half = has_bfloat16() if settings.bfloat16 is None else settings.bfloat16
    for step, rows in enumerate(steps([len(e) for e in encoded], settings, seed)):
        arrays = helper.encoder.pad_batch([encoded[i] for i in rows])
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            scores = helper.log_probabilities(B, *(torch.from_numpy(arrays[name]) for name in helper.names))
        loss = -(scores.float() * torch.from_numpy(arrays["share"])).sum() / len(rows)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if progress:
            progress(step + 1, settings.steps)
    vector = np.concatenate([b.detach().numpy().ravel() for b in B]).astype(np.float32)
    if not np.isfinite(vector).all() or not vector.any():
        raise ModelError("the fit gave no finite parameter vector; lower the learning rate")
    return vector
