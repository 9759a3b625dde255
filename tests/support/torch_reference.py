"""What the graph of a space is compared with: one example at a time, W + B A written into the weights, autograd.

Shares no code with ``learndock.spaces.authoring.torch_helper`` but the loading: the library's own forward pass runs,
with its own attention mask and positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from learndock.spaces.authoring.torch_helper import Recipe
from learndock.spaces.philox import shared_A

TARGETS = ("query", "key", "value")


class Reference:
    """A helper as a formula: features, and their gradients in B at B = 0."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

        loader = AutoModelForMaskedLM if recipe.pooling == "mask" else AutoModel
        self.recipe, self.tokenizer = recipe, AutoTokenizer.from_pretrained(folder)
        self.network = _Features(loader.from_pretrained(folder).eval(), recipe.pooling)
        names = [n for n, _ in self.network.named_modules() if n.rsplit(".", 1)[-1] in TARGETS]
        self.weights = {f"{n}.weight": self.network.get_parameter(f"{n}.weight").detach() for n in names}
        self.A = [
            torch.from_numpy(shared_A(recipe.seed, i, recipe.rank, w.shape[1]))
            for i, w in enumerate(self.weights.values())
        ]

    def _ids(self, text: Any) -> torch.Tensor:
        if self.recipe.template:
            text = self.recipe.template.replace("{text}", text)
        parts = text if isinstance(text, tuple) else (text,)
        ids: torch.Tensor = self.tokenizer(*parts, return_tensors="pt")["input_ids"]
        return ids

    def feature(self, text: Any, B: Sequence[torch.Tensor]) -> torch.Tensor:
        """f(x; B) of unit length, ``(width,)``."""
        changed = {name: w + b @ a for (name, w), a, b in zip(self.weights.items(), self.A, B, strict=True)}
        ids = self._ids(text)
        at = (ids[0] == self.tokenizer.mask_token_id).nonzero() if self.recipe.pooling == "mask" else None
        found = torch.func.functional_call(self.network, changed, (ids,))
        pooled = found.mean(0) if at is None else found[int(at)]
        unit: torch.Tensor = pooled / pooled.norm()
        return unit

    def zeros(self) -> list[torch.Tensor]:
        return [torch.zeros(w.shape[0], self.recipe.rank, requires_grad=True) for w in self.weights.values()]

    def features(self, texts: Sequence[Any]) -> np.ndarray:
        with torch.no_grad():
            return np.stack([self.feature(t, self.zeros()).numpy() for t in texts])

    def gradient(self, text: Any, direction: np.ndarray) -> np.ndarray:
        """d<f(x; B), t>/dB at B = 0, ``(|B|,)``."""
        B = self.zeros()
        gradients = torch.autograd.grad(self.feature(text, B) @ torch.from_numpy(direction), B)
        return np.concatenate([g.numpy().ravel() for g in gradients])


class _Features(torch.nn.Module):
    """Ids ``(1, tokens)`` to hidden states ``(tokens, width)``."""

    def __init__(self, model: Any, pooling: str) -> None:
        super().__init__()
        self.model, self.pooling = model, pooling

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if self.pooling != "mask":
            found: torch.Tensor = self.model(ids).last_hidden_state[0]
            return found
        hidden, head = self.model.roberta(ids).last_hidden_state[0], self.model.lm_head
        masked: torch.Tensor = head.layer_norm(torch.nn.functional.gelu(head.dense(hidden)))
        return masked
