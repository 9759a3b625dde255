"""A published space of images, rebuilt in torch: for the recipe of the papers, and to check its graphs."""

from __future__ import annotations

import json

from learndock.errors import SpaceError
from learndock.spaces.authoring.torch_helper import require_torch
from learndock.spaces.authoring.vision_helper import EFFICIENTNET, VisionHelper, efficientnet_of
from learndock.spaces.authoring.vision_transformers import KIND, rebuild
from learndock.spaces.space import Space


def space_vision_helper(space: Space) -> VisionHelper:
    """Return the helper of a published space of images in torch, from the same checked files.

    Raises:
        MissingExtra: torch is not installed.
        WeightsMissing, WeightsChanged: see ``Space.read``.
        SpaceError: its architecture cannot be rebuilt here.
    """
    require_torch()
    from safetensors.torch import load

    config = json.loads(space.read("config.json"))
    if config.get("model_type") == KIND:
        head = space.description["head"]
        tokenizer = space.read("tokenizer.json") if "encoder" in head else None
        pad = head["encoder"]["pad"] if "encoder" in head else 0
        return rebuild(load(space.read("model.safetensors")), config, tokenizer, pad)
    if config.get("model_type") != EFFICIENTNET:
        raise SpaceError(f"space {space.name}: the architecture {config.get('model_type')!r} cannot be rebuilt here")
    return efficientnet_of(load(space.read("model.safetensors")), config)
