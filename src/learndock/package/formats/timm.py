"""Format ``timm``: a classifier of images by the name of its architecture, as ``timm.models.save_for_hf`` writes it.

config.json         architecture, label names, how images are prepared
model.safetensors   weights
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import ModelError
from learndock.package.columns import columns_in
from learndock.package.extras import need
from learndock.package.formats import Model, Progress
from learndock.package.formats import _loading as loading
from learndock.package.formats import _tuning as tuning
from learndock.package.formats._timm import FILE as CONFIG
from learndock.package.formats._timm import SOURCES, Described, is_timm, pretrained_of, read_config
from learndock.package.formats._torchvision import mend_torchvision
from learndock.package.json_file import read_object
from learndock.package.safety import header_of
from learndock.tensor_file import SafetensorsHeader

WEIGHTS = "model.safetensors"
#: As of the transformers format. A rough comparison, EfficientNet-Lite0 at 96 pixels, digits 0 to 4 with 8 images each,
#: one seed, 200 others to test on: .95 at 5e-5, .925 at 3e-4, .91 at 1e-3 (the layer at 1e-3), .915 the layer alone.
PLAN = tuning.Plan(rate=2e-5, fresh=5e-5, head=1e-3)
#: What timm raises over arguments that do not fit an architecture.
_FAILURES = (AssertionError, AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)
#: Floats, and integers for what batch normalisation counts and attention looks up.
_TYPES = ("BF16", "F16", "F32", "F64", "I32", "I64")
#: Deviation of the weights of a new output layer.
_SPREAD = 0.02


class TimmFormat:
    """Classifiers of images of the timm library, from safetensors."""

    name = "timm"
    looks_for = f"{CONFIG} with an architecture of timm, and {WEIGHTS}"

    def recognises(self, folder: Path) -> bool:
        """See ``Format``."""
        return not (folder / "model.onnx").is_file() and is_timm(folder)

    def check(self, folder: Path, schema: Schema) -> dict[str, Any]:
        """See ``Format``."""
        read_config(folder, schema)
        _header(folder)
        return {}

    def load(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> Model:
        """See ``Format``."""
        described = read_config(folder, schema)
        network = _load(folder, described)
        return loading.TorchModel(network, described.pixels, schema, _columns(described, schema, settings))

    def label_names(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> list[str]:
        """See ``Named``."""
        return read_config(folder, schema).label_names(schema)

    def finetune(
        self,
        folder: Path,
        schema: Schema,
        settings: dict[str, Any],
        examples: Examples,
        target: Schema,
        out: Path,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """See ``Format``. All weights are tuned; other labels get a new output layer."""
        described = read_config(folder, schema)
        network = _load(folder, described)
        with loading.seeded(seed):
            outputs = target.classes or 1
            fits = outputs == len(described.names) and schema.type == target.type
            if outputs != len(described.names):
                network.reset_classifier(outputs)
            layer = _output_layer(network, outputs)
            own = tuning.own_names(schema, _columns(described, schema, settings)) if fits else []
            fresh = tuning.arrange_head(layer, own, target, _SPREAD)
            tuning.tune(
                network, described.pixels, examples, target, layer, PLAN, fresh=fresh, seed=seed, progress=progress
            )
        _write(network, target, folder, out)


def _columns(described: Described, schema: Schema, settings: dict[str, Any]) -> list[int]:
    if schema.type == "regression":
        return [0]
    return columns_in(settings, described.label_names(schema), schema, where=CONFIG)


def _header(folder: Path) -> SafetensorsHeader:
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"missing in {folder}",
            remedy="save the model with "
            "timm.models.save_for_hf(..., safe_serialization=True), not as pytorch_model.bin",
            about=WEIGHTS,
        )
    return header_of(folder / WEIGHTS)


def _load(folder: Path, described: Described) -> Any:
    """The network with its weights, as float32.

    Raises:
        ModelError: timm does not know it, or its weights are of another network, or no numbers.
        MissingExtra
    """
    torch = need("torch", extra="timm", why="a timm model")
    mend_torchvision()
    timm = need("timm", extra="timm", why="a timm model")
    header = _header(folder)
    if not timm.is_model(described.architecture):
        raise ModelError(
            f"architecture {described.architecture!r} is not known to timm {timm.__version__}",
            remedy="update timm, or export the model to ONNX",
            about=CONFIG,
        )
    try:
        # First without memory for its weights: a small file may name a network of many gigabytes
        with loading.seeded(0), torch.device("meta"):
            planned = timm.create_model(described.architecture, pretrained=False, **described.arguments)
        _compare({name: tuple(value.shape) for name, value in planned.state_dict().items()}, header)
        with loading.seeded(0):
            network = timm.create_model(described.architecture, pretrained=False, **described.arguments)
    except _FAILURES as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(
            f"timm {timm.__version__} cannot build {described.architecture} ({text})", about=CONFIG
        ) from None
    from safetensors.torch import load_file

    tensors = load_file(folder / WEIGHTS)
    odd = next((name for name, value in tensors.items() if not torch.isfinite(value).all()), None)
    if odd is not None:
        raise ModelError(f"{odd} holds values that are not finite", remedy="the weights are damaged", about=WEIGHTS)
    network.load_state_dict(tensors)
    return network.eval()


def _compare(wanted: dict[str, tuple[int, ...]], header: SafetensorsHeader) -> None:
    """Compare names and shapes of weights with what the network takes.

    Raises:
        ModelError: they differ.
    """
    remedy = "save model and configuration together, with timm.models.save_for_hf"
    for what, names in (
        ("are missing", sorted(wanted.keys() - header.tensors.keys())),
        ("belong to no part of the network", sorted(header.tensors.keys() - wanted.keys())),
    ):
        if names:
            raise ModelError(f"{len(names)} weights {what} ({', '.join(names[:3])})", remedy=f"{remedy}", about=WEIGHTS)
    for name, shape in wanted.items():
        entry = header.tensors[name]
        if entry.dtype not in _TYPES:
            raise ModelError(f"{name} is of type {entry.dtype}", remedy="save the model as float32", about=WEIGHTS)
        found = tuple(entry.shape)
        if found != shape:
            raise ModelError(f"{name} has the shape {found}, the network {shape}", remedy=f"{remedy}", about=WEIGHTS)


def _output_layer(network: Any, outputs: int) -> Any:
    import torch

    layer = network.get_classifier()
    if not isinstance(layer, torch.nn.Linear) or layer.out_features != outputs:
        raise ModelError(
            "the model's output layer is not one plain linear layer", remedy="only such models can be tuned"
        )
    return layer


def _write(network: Any, target: Schema, folder: Path, out: Path) -> None:
    """Write a tuned network to ``out``, with the configuration of ``folder`` under the labels of ``target``."""
    from safetensors.torch import save_file

    config = read_object(folder / CONFIG)
    named = ("label_descriptions", "label_names", "labels")
    said = {k: v for k, v in pretrained_of(config).items() if k not in (*named, *SOURCES, "architecture")}
    arguments = {k: v for k, v in (config.get("model_args") or {}).items() if k != "num_classes"}
    names = list(target.labels) if target.type == "classification" else ["value"]
    written: dict[str, Any] = {
        "architecture": config["architecture"],
        "label_names": names,
        "num_classes": len(names),
        "num_features": network.num_features,
        "pretrained_cfg": {**said, "num_classes": len(names)},
    }
    if arguments:
        written["model_args"] = arguments
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous().clone() for name, value in network.state_dict().items()}
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    (out / CONFIG).write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", "utf-8")
