"""What a scikit-learn model is given in place of inputs that it cannot read itself, such as images.

A file ``features.json`` beside the model says it, and its content goes into the manifest's settings:

    {"space": "efficientnet-lite0"}    the features of that space's helper, of unit length
    {"pixels": 16}                     images: their middle square at 16 x 16, red, green, blue, from 0 to 1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.errors import ModelError
from learndock.package.json_file import read_object
from learndock.spaces.images import ImageEncoder
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.space import PLAIN, get_space
from learndock.spec.spec import identity

FILE = "features.json"
MAX_PIXELS = 256
Features = Callable[[Sequence[Input]], NDArray[Any]]


def read_features(folder: Path) -> dict[str, Any]:
    """What ``features.json`` says, checked, as settings; empty where there is none.

    Raises:
        ModelError: it says something else than the two forms.
    """
    if not (folder / FILE).is_file():
        return {}
    said = read_object(folder / FILE)
    space, pixels = said.get("space"), said.get("pixels")
    if set(said) == {"space"} and isinstance(space, str) and PLAIN.fullmatch(space):
        return {"features": {"space": space}}
    if set(said) == {"pixels"} and type(pixels) is int and 1 <= pixels <= MAX_PIXELS:
        return {"features": {"pixels": pixels}}
    raise ModelError(f'must be {{"space": NAME}} or {{"pixels": 1 to {MAX_PIXELS}}}', about=FILE)


def settle_features(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the hash of the space's description: another helper of that name would be another model."""
    said = settings.get("features")
    if not isinstance(said, Mapping) or "space" not in said:
        return dict(settings)
    return {**settings, "features": {**said, "description": _described(said["space"])}}


def load_features(settings: Mapping[str, Any]) -> Features | None:
    """The function from inputs to what the model takes, or None where it takes the inputs themselves.

    Raises:
        SpaceError: the space is not installed here.
        ModelError: it is not the one that the model was made on.
    """
    said = settings.get("features")
    if not isinstance(said, Mapping):
        return None
    if "pixels" in said:
        encoder = ImageEncoder(int(said["pixels"]))
        return lambda inputs: np.array([p.ravel() for p in encoder(inputs)], np.float64) / 255
    name = str(said["space"])
    if said.get("description") not in (None, _described(name)):
        raise ModelError(
            f"the space {name} that is installed here is another than the one that this model was made on",
            remedy="install that one with `learndock space install`",
            about=FILE,
        )
    helper = load_helper(get_space(name))
    return lambda inputs: helper.features(inputs)


def _described(name: str) -> str:
    return identity(dict(get_space(name).description))
