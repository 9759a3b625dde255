"""The domain of a few inputs without labels: the part of a spec that a prompt alone can give.

A behaviour needs answers; a prompt has none. So a router that sees only prompts compares domains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from learndock.data.examples import Input
from learndock.errors import DataError, SpecError
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.space import Space, get_space
from learndock.spec.spec import Array, identity, unit


@dataclass(frozen=True, eq=False)
class Domain:
    """What ``n`` inputs are about: ``values`` ``(feature width,)`` float32, in the space that ``space`` describes.

    For one short text this is a sentence embedding, from which much of the text can be reconstructed: treat it like
    the text.
    """

    space_id: str
    values: Array
    n: int

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or not self.values.size or not np.isfinite(self.values).all():
            raise SpecError("a domain is a list of finite numbers")
        if not np.any(self.values):
            raise SpecError("the domain is zero")
        if self.n < 1:
            raise SpecError(f"n is {self.n}; it counts inputs")

    @property
    def unit_domain(self) -> Array:
        """``values`` of length one."""
        return unit(self.values)


def make_domain(inputs: Sequence[Input], *, space: Space | str | None = None) -> Domain:
    """Return the domain of ``inputs`` (texts, prompts or images), computed on this machine.

    Args:
        inputs: at least one; several from one conversation, client or task say more than one.
        space: name, folder or ``Space``; by default the built-in one for texts.

    Raises:
        DataError: there is no input.
        SpaceError, WeightsMissing: the space cannot be used here.

    Example:
        >>> about = learndock.make_domain(["a great film", "poor actors and a weak story"])
        >>> about.n, about.values.shape
        (2, (384,))
    """
    if not inputs:
        raise DataError("no inputs are given", remedy="give at least one prompt")
    chosen = get_space() if space is None else get_space(space)
    features = load_helper(chosen).features(list(inputs))
    description: Mapping[str, Any] = chosen.describe("one-pass")
    return Domain(identity(description), np.asarray(features.mean(0) - chosen.center, np.float32), len(inputs))
