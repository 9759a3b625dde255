"""Read how a model's images are prepared from ``preprocessor_config.json``, as transformers would.

The file names a class and some settings; the class decides what the file leaves out. The common classes are a resize, a
crop from the middle, a factor, a mean and a deviation, and differ in their defaults and in what a single number means.
Classes and settings that do more are refused, because a model would run and be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from learndock.data.examples import Input
from learndock.data.images import Image, pillow_image
from learndock.errors import ModelError
from learndock.package.formats._pixels import FILE, Pixels
from learndock.package.json_file import read_object

MAX_SIDE = 4096
_SAID = frozenset(
    {
        "crop_pct", "crop_size", "do_center_crop", "do_convert_rgb", "do_flip_channel_order", "do_normalize",
        "do_rescale", "do_resize", "image_mean", "image_std", "resample", "rescale_factor", "size",
    }
)  # fmt: skip
#: Of how the library works, or of training labels: without effect on one image.
_IGNORED = frozenset(
    {
        "_valid_processor_keys", "data_format", "default_to_square", "device", "disable_grouping", "do_reduce_labels",
        "feature_extractor_type", "image_processor_type", "image_seq_length", "input_data_format", "processor_class",
        "reduce_labels", "return_tensors",
    }
)  # fmt: skip
_HALF = (0.5, 0.5, 0.5)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_BILINEAR, _BICUBIC = 2, 3


@dataclass(frozen=True)
class _Class:
    """The defaults of a processor: ``size`` is both sides where ``square``, else the shorter one."""

    size: int
    square: bool
    crop: int | None = None
    resample: int = _BICUBIC
    mean: tuple[float, ...] = _HALF
    deviation: tuple[float, ...] = _HALF
    normalize: bool = True
    fraction: float | None = None
    backwards: bool = False


#: Class without ImageProcessor or FeatureExtractor -> what it does where the file says nothing.
_CLASSES = {
    "Beit": _Class(224, True),
    "Bit": _Class(224, False, 224, _BICUBIC, *_CLIP),
    "CLIP": _Class(224, False, 224, _BICUBIC, *_CLIP),
    "ConvNext": _Class(384, False, fraction=0.875),
    "DeiT": _Class(256, True, 224),
    "MobileNetV1": _Class(256, False, 224, _BILINEAR),
    "MobileNetV2": _Class(256, False, 224, _BILINEAR),
    "MobileViT": _Class(224, False, 256, normalize=False, backwards=True),
    "Pvt": _Class(224, True, None, _BICUBIC, *_IMAGENET),
    "Segformer": _Class(512, True, None, _BILINEAR, *_IMAGENET),
    "Siglip": _Class(224, True),
    "ViT": _Class(224, True, None, _BILINEAR),
}
#: Model types of transformers -> the class where the file names none.
_BY_MODEL = {
    "beit": "Beit", "bit": "Bit", "clip": "CLIP", "convnext": "ConvNext", "convnextv2": "ConvNext", "cvt": "ConvNext",
    "data2vec-vision": "Beit", "deit": "DeiT", "dinat": "ViT", "dinov2": "Bit", "focalnet": "Bit", "hiera": "Bit",
    "mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2", "mobilevit": "MobileViT", "mobilevitv2": "MobileViT",
    "pvt": "Pvt", "pvt_v2": "Pvt", "regnet": "ConvNext", "resnet": "ConvNext", "segformer": "Segformer",
    "siglip": "Siglip", "swiftformer": "ViT", "swin": "ViT", "swinv2": "ViT", "vit": "ViT", "vit_msn": "ViT",
}  # fmt: skip


def read_pixels(folder: Path) -> Pixels:
    """What ``preprocessor_config.json`` says.

    Raises:
        ModelError: it asks for something that is not done here, or is damaged.
    """
    said = read_object(folder / FILE)
    known = _class_of(said, folder)
    odd = sorted(k for k, v in said.items() if v and k not in _SAID | _IGNORED)
    if odd:
        raise ModelError(
            f"{', '.join(odd[:3])}: not supported", remedy="export the model to ONNX with it inside", about=FILE
        )
    shortest, exact = _size(said, known) if said.get("do_resize", True) else (None, None)
    crop = None
    if said.get("do_center_crop", known.crop is not None):
        crop = _pair(said.get("crop_size", known.crop), "crop_size")
    if known.fraction is not None and said.get("do_resize", True):
        shortest, exact, crop = _with_fraction(said.get("crop_pct") or known.fraction, shortest, crop)
    if exact is None and crop is None:
        raise ModelError("images keep sizes of their own (no size and no crop)", remedy="give both sides", about=FILE)
    factor = said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 1.0
    mean: Any = [0.0] * 3
    deviation: Any = [1.0] * 3
    if said.get("do_normalize", known.normalize):
        mean, deviation = said.get("image_mean") or known.mean, said.get("image_std") or known.deviation
    if isinstance(mean, int | float) and isinstance(deviation, int | float):
        mean, deviation = [mean] * 3, [deviation] * 3
    numbers = [factor, *mean, *deviation]
    if len(numbers) != 7 or not all(isinstance(v, int | float) for v in numbers) or 0 in deviation:
        raise ModelError("rescale_factor, image_mean and image_std must be numbers, three of each mean", about=FILE)
    resample = said.get("resample", known.resample)
    if type(resample) is not int or not 0 <= resample <= 5:
        raise ModelError(f"resample is {resample!r}", about=FILE)
    backwards = bool(said.get("do_flip_channel_order", True)) and known.backwards
    return Pixels(
        shortest, exact, crop, resample, float(factor), tuple(mean), tuple(deviation), backwards=backwards
    )  # fmt: skip


def _class_of(said: Mapping[str, Any], folder: Path) -> _Class:
    """The class that the file names, or that transformers takes for the model.

    Raises:
        ModelError: one whose work is not known here.
    """
    key = next((k for k in ("image_processor_type", "feature_extractor_type") if said.get(k)), None)
    if key is None:
        kind = read_object(folder / "config.json").get("model_type") if (folder / "config.json").is_file() else None
        return _CLASSES[_BY_MODEL.get(str(kind), "ViT")]
    name = str(said[key])
    short = name
    for ending in ("Pil", "Fast", "ImageProcessor", "FeatureExtractor"):
        short = short.removesuffix(ending)
    if short not in _CLASSES:
        raise ModelError(
            f"{key} is {name[:80]}, whose work is not known",
            remedy=f"known are {', '.join(sorted(_CLASSES))}. Export the model to ONNX with the preparation inside",
            about=FILE,
        )
    return _CLASSES[short]


def _with_fraction(
    fraction: Any, shortest: int | None, crop: tuple[int, int] | None
) -> tuple[int | None, tuple[int, int] | None, tuple[int, int] | None]:
    """Shorter side, both sides and crop where only a ``fraction`` of an image is kept, as of ConvNext's."""
    if type(fraction) not in (int, float) or not 0.1 <= fraction <= 1:
        raise ModelError(f"crop_pct is {fraction!r}", about=FILE)
    if shortest is None:
        raise ModelError(
            "size must be the shorter side (shortest_edge) where a fraction is kept (crop_pct)", about=FILE
        )
    if shortest >= 384:
        return None, (shortest, shortest), crop
    if crop is not None and crop != (shortest, shortest):
        raise ModelError("crop_size and crop_pct together are not supported", remedy="remove one", about=FILE)
    return int(shortest / fraction), None, (shortest, shortest)


def _size(said: Mapping[str, Any], known: _Class) -> tuple[int | None, tuple[int, int] | None]:
    size = said.get("size", known.size)
    if isinstance(size, list) and len(size) == 2:
        size = {"height": size[0], "width": size[1]}
    if isinstance(size, int):
        square = said.get("default_to_square", known.square)
        size = {"height": size, "width": size} if square else {"shortest_edge": size}
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return _side(size["shortest_edge"], "size"), None
    return None, _pair(size, "size")


def _pair(value: Any, name: str) -> tuple[int, int]:
    if isinstance(value, int):
        value = {"height": value, "width": value}
    if not isinstance(value, Mapping) or set(value) != {"height", "width"}:
        raise ModelError(f"{name} is {value!r}", remedy="expected height and width", about=FILE)
    return _side(value["height"], name), _side(value["width"], name)


def _side(value: Any, name: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_SIDE:
        raise ModelError(f"{name} is {value!r}", remedy=f"expected 1 to {MAX_SIDE} pixels", about=FILE)
    return value


# --- beside the library, when a model is packed ----------------------------------------------------------------------

#: So many of the owner's images are compared, beside two of noise.
_COMPARED = 4
_CLOSE = 1e-3


def compare_pixels(folder: Path, pixels: Pixels, inputs: Sequence[Input]) -> None:
    """Compare our pixels with those of ``AutoImageProcessor`` for ``folder``, on noise and on some of ``inputs``.

    Where transformers is not installed, or the folder is not one of its models, nothing is compared.

    Raises:
        ModelError: they differ; names the class.
    """
    try:
        import transformers
    except ImportError:
        return
    if not (folder / "config.json").is_file() or "model_type" not in read_object(folder / "config.json"):
        return
    theirs = _auto(transformers, folder)
    images = [*(_noise(*shape) for shape in ((67, 45), (45, 67))), *inputs[:_COMPARED]]
    own = pixels.batch(pixels.encode(images), range(len(images))).pixels
    for image, found in zip(images, own, strict=True):
        expected = np.asarray(theirs(images=pillow_image(image))["pixel_values"][0], np.float32)
        if expected.shape != found.shape or float(np.abs(expected - found).max()) > _CLOSE:
            same = expected.shape == found.shape
            away = f"up to {np.abs(expected - found).max():.3g} away" if same else "of another size"
            library = f"{type(theirs).__name__} of transformers {transformers.__version__}"
            raise ModelError(
                f"{library} makes other pixels of an image ({away})",
                remedy="export the model to ONNX with the preparation inside",
                about=FILE,
            )


def _auto(transformers: Any, folder: Path) -> Any:
    from learndock.package.formats._quiet import quiet

    try:
        with quiet():
            return transformers.AutoImageProcessor.from_pretrained(
                folder, backend="pil", local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # the library raises plain Exceptions over files that do not fit
        text = " ".join(str(error).split())[:200]
        raise ModelError(
            f"transformers cannot load it ({text})", remedy="save it again with save_pretrained", about=FILE
        ) from None


def _noise(height: int, width: int) -> Image:
    """An image of patches of random colours, always the same."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), dtype=np.uint8)
    return Image.from_pixels(coarse.repeat(9, 0).repeat(9, 1)[:height, :width])
