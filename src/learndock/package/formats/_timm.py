"""What timm's ``config.json`` says, read without timm: which network, what its columns mean, how images are prepared.

Only what is read here reaches timm. The file also has room for places to fetch weights from, for code's arguments
and for another library's weights: arguments are on a list, places are never followed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.schema import Schema
from learndock.errors import ModelError
from learndock.package.columns import by_name, placeholders
from learndock.package.formats._outputs import check_count
from learndock.package.formats._pixels import Pixels
from learndock.package.json_file import read_object
from learndock.package.safety import check_settings

FILE = "config.json"
MAX_SIDE = 1024
#: A name of timm's register: no path, no address of a hub, no tag.
_NAME = re.compile(r"[a-z][a-z0-9_]{1,99}")
#: As Pillow numbers them.
_RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
_MODES = ("center", "squash", "border")
#: Keys of ``pretrained_cfg`` that say where weights once came from. They are never followed.
SOURCES = ("hf_hub_filename", "hf_hub_id", "source", "tag", "url")
#: Keys that change what weights mean or where they are read from when timm itself opens the folder.
_REFUSED = ("custom_load", "file", "label_offset", "state_dict")
_ABOUT = (
    "architecture", "classifier", "crop_mode", "crop_pct", "description", "first_conv", "fixed_input_size",
    "input_size", "interpolation", "label_descriptions", "label_names", "license", "mean", "min_input_size", "notes",
    "num_classes", "origin_url", "paper_ids", "paper_name", "pool_size", "std", "test_crop_pct",
    "test_input_size", "test_pool_size",
)  # fmt: skip
_POOLS = ("", "avg", "avgmax", "catavgmax", "fast", "fastavg", "fastavgmax", "fastcatavgmax", "fastmax", "map", "max",
          "prr", "token")  # fmt: skip


@dataclass(frozen=True)
class Described:
    """A network of timm: ``arguments`` are those of ``timm.create_model``."""

    architecture: str
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    arguments: Mapping[str, Any]
    pixels: TimmPixels

    def label_names(self, schema: Schema) -> list[str]:
        """What the columns are called; their descriptions where those, and not the names, are the schema's labels."""
        described = by_name(self.descriptions, schema.labels) is not None
        return list(self.descriptions if described else self.names)


@dataclass(frozen=True)
class TimmPixels(Pixels):
    """As ``timm.data.create_transform`` prepares images to evaluate on: ``scale`` (height, width) is what an image is
    resized to, by ``mode``, ``crop`` what is taken from its middle.
    """

    mode: str
    scale: tuple[int, int]

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """See ``Pixels``: cover the scale (center), lie within it (border), or become it (squash)."""
        if self.mode == "squash" or (self.mode == "center" and self.scale[0] == self.scale[1]):
            return super().resized(height, width)
        ratios = height / self.scale[0], width / self.scale[1]
        ratio = max(ratios) if self.mode == "border" else min(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See ``Pixels``: around too small an image is black, or with borders the mean colour."""
        assert self.crop is not None
        fill = [round(255 * v) for v in self.mean] if self.mode == "border" else [0, 0, 0]
        # As torchvision rounds: down for what is added, to even for what is cut
        missing = [max(0, wanted - found) for wanted, found in zip(self.crop, pixels.shape, strict=False)]
        if any(missing):
            padded = np.empty((pixels.shape[0] + missing[0], pixels.shape[1] + missing[1], 3), np.uint8)
            padded[:] = np.array(fill, np.uint8)
            top, left = missing[0] // 2, missing[1] // 2
            padded[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
            pixels = padded
        top, left = (round((found - wanted) / 2) for wanted, found in zip(self.crop, pixels.shape, strict=False))
        return pixels[top : top + self.crop[0], left : left + self.crop[1]]


def is_timm(folder: Path) -> bool:
    """Whether ``config.json`` names an architecture as timm does, and no model type of transformers."""
    if not (folder / FILE).is_file():
        return False
    try:
        config = read_object(folder / FILE)
    except ModelError:
        return False  # other formats say what is wrong with it
    return "architecture" in config and "model_type" not in config


def read_config(folder: Path, schema: Schema) -> Described:
    """What ``config.json`` says of a classifier for ``schema``.

    Raises:
        UnsafeModel: it names code.
        ModelError: it asks for something that is not done here, is damaged, or contradicts the schema.
    """
    config = read_object(folder / FILE)
    check_settings(config, where=FILE)
    name = config.get("architecture")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ModelError(
            f"architecture is {str(name)[:80]!r}",
            remedy="expected a plain name of timm's, such as resnet18 or "
            "vit_base_patch16_224, without a path, a hub or a tag",
            about=FILE,
        )
    said = pretrained_of(config)
    _check_keys(said)
    names, descriptions = _names(config, said)
    check_count(len(names), schema, where=FILE)
    size = _input_size(said.get("input_size", [3, 224, 224]), "pretrained_cfg.input_size")
    arguments = _arguments(config.get("model_args"), len(names))
    if said.get("fixed_input_size") and "img_size" not in arguments:
        arguments["img_size"] = list(size)
    return Described(name, names, descriptions, {**arguments, "num_classes": len(names)}, _pixels(said, size))


def pretrained_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The object ``pretrained_cfg``; older files say its keys beside ``architecture``.

    Raises:
        ModelError: it is not an object.
    """
    said = config.get("pretrained_cfg")
    if said is None:
        return {k: v for k, v in config.items() if k in (*_ABOUT, *_REFUSED)}
    if not isinstance(said, dict):
        raise ModelError(
            "pretrained_cfg is not an object", remedy="save the model again with timm.models.save_for_hf", about=FILE
        )
    return said


def _check_keys(said: Mapping[str, Any]) -> None:
    for key in _REFUSED:
        if said.get(key):
            raise ModelError(
                f"pretrained_cfg.{key} is not supported",
                remedy="save the model again with timm.models.save_for_hf",
                about=FILE,
            )
    odd = sorted(k for k in said if k not in (*_ABOUT, *_REFUSED, *SOURCES))
    if odd:
        raise ModelError(f"pretrained_cfg.{odd[0][:60]} is not a key that timm writes", remedy="remove it", about=FILE)


def _names(config: Mapping[str, Any], said: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the columns are called, and their descriptions (none where one is missing)."""
    count = config.get("num_classes", said.get("num_classes"))
    if type(count) is not int or not 1 <= count <= 100_000:
        raise ModelError(
            f"num_classes is {str(count)[:80]}", remedy="expected how many classes the model has", about=FILE
        )
    given: Any = None
    for place, key in ((config, "label_names"), (config, "labels"), (said, "label_names")):
        given = place.get(key) if given is None else given
    if isinstance(given, dict):
        numbered = all(re.fullmatch(r"[0-9]{1,6}", k) for k in given)
        if not numbered or sorted(int(k) for k in given) != list(range(len(given))):
            raise ModelError(f"label_names must name the classes 0, 1, 2, ...; found {str(given)[:200]}", about=FILE)
        given = [given[k] for k in sorted(given, key=int)]
    names = placeholders(count) if given is None else given
    if not isinstance(names, list) or len(names) != count or not all(isinstance(n, str | int) for n in names):
        raise ModelError(f"label_names must be {count} names, one per class; found {str(names)[:200]}", about=FILE)
    texts = config.get("label_descriptions") or said.get("label_descriptions")
    if not isinstance(texts, dict) or not all(isinstance(texts.get(str(n)), str) for n in names):
        return tuple(str(n) for n in names), ()
    return tuple(str(n) for n in names), tuple(texts[str(n)] for n in names)


def _arguments(given: Any, outputs: int) -> dict[str, Any]:
    """``model_args`` that shape a network and can do nothing else."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ModelError("model_args is not an object", about=FILE)
    for key, value in given.items():
        if key not in _ARGUMENTS:
            raise ModelError(
                f"model_args.{key[:60]} is not supported",
                remedy=f"known are {', '.join(_ARGUMENTS)}. Export the model to ONNX",
                about=FILE,
            )
        if value is not None and not _ARGUMENTS[key](value):
            raise ModelError(f"model_args.{key} is {str(value)[:80]!r}", about=FILE)
    if given.get("num_classes") not in (None, outputs):
        raise ModelError(f"model_args.num_classes is {given['num_classes']}, num_classes {outputs}", about=FILE)
    return {k: v for k, v in given.items() if v is not None}


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_SIDE


def _is_size(value: Any) -> bool:
    return _is_side(value) or (isinstance(value, list) and len(value) == 2 and all(map(_is_side, value)))


def _is_rate(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1


_ARGUMENTS: dict[str, Callable[[Any], bool]] = {
    "drop_path_rate": _is_rate,
    "drop_rate": _is_rate,
    "dynamic_img_size": lambda value: type(value) is bool,
    "global_pool": lambda value: isinstance(value, str) and value in _POOLS,
    "img_size": _is_size,
    "in_chans": lambda value: type(value) is int and value == 3,
    "num_classes": lambda value: type(value) is int,
    "strict_img_size": lambda value: type(value) is bool,
}


def _input_size(value: Any, name: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 3 or value[0] != 3 or not _is_size(value[1:]):
        raise ModelError(
            f"{name} is {str(value)[:80]}", remedy=f"expected [3, height, width] of 1 to {MAX_SIDE} pixels", about=FILE
        )
    return value[1], value[2]


def _pixels(said: Mapping[str, Any], size: tuple[int, int]) -> TimmPixels:
    mode = said.get("crop_mode") or "center"
    if mode not in _MODES:
        raise ModelError(
            f"pretrained_cfg.crop_mode is {str(mode)[:80]!r}", remedy=f"expected {', '.join(_MODES)}", about=FILE
        )
    fraction = said.get("crop_pct") or 0.875
    # Below a half, what is thrown away is most of the work
    if type(fraction) not in (int, float) or not 0.5 <= fraction <= 1:
        raise ModelError(f"pretrained_cfg.crop_pct is {str(fraction)[:80]}", remedy="expected .5 to 1", about=FILE)
    resample = said.get("interpolation") or "bicubic"
    if not isinstance(resample, str) or resample not in _RESAMPLE:
        raise ModelError(
            f"pretrained_cfg.interpolation is {str(resample)[:80]!r}",
            remedy=f"expected {', '.join(_RESAMPLE)}",
            about=FILE,
        )
    mean = _three(said.get("mean") or [0.485, 0.456, 0.406], "mean")
    deviation = _three(said.get("std") or [0.229, 0.224, 0.225], "std")
    if min(deviation) <= 0:
        raise ModelError("pretrained_cfg.std must be above zero", about=FILE)
    scale = math.floor(size[0] / fraction), math.floor(size[1] / fraction)
    exact = scale if mode == "squash" else None
    shortest = scale[0] if mode == "center" and scale[0] == scale[1] else None
    return TimmPixels(shortest, exact, size, _RESAMPLE[resample], 1 / 255, mean, deviation, mode, scale)


def _three(values: Sequence[Any], name: str) -> tuple[float, ...]:
    if (
        not isinstance(values, list)
        or len(values) not in (1, 3)
        or not all(type(v) in (int, float) and abs(v) <= 1_000 for v in values)
    ):
        raise ModelError(f"pretrained_cfg.{name} must be three numbers, found {str(values)[:80]}", about=FILE)
    return tuple(float(v) for v in (values * 3 if len(values) == 1 else values))
