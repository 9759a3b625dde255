"""Format ``transformers``: a classifier of texts or images as ``save_pretrained`` writes it.

config.json                 model type, label names
model.safetensors           weights, or model.safetensors.index.json and its parts
tokenizer.json              the tokenizer, for texts
preprocessor_config.json    how images are prepared, for images
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from learndock.data.examples import Examples, Input
from learndock.data.schema import Schema
from learndock.errors import ModelError
from learndock.package.columns import both_names, columns_in, names_in
from learndock.package.formats import Model, Progress
from learndock.package.formats import _loading as loading
from learndock.package.formats import _tuning as tuning
from learndock.package.formats._cross_encoder import activation
from learndock.package.formats._image_settings import compare_pixels, read_pixels
from learndock.package.formats._outputs import check_count
from learndock.package.formats._pixels import FILE as PIXELS
from learndock.package.formats._pixels import reads_images
from learndock.package.formats._quiet import quiet
from learndock.package.formats._tokenizer_settings import compare_with_library, positions_of
from learndock.package.formats._tokens import TextTokens
from learndock.package.json_file import read_object
from learndock.package.safety import check_settings, header_of
from learndock.tensor_file import SafetensorsHeader

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", PIXELS)
#: Model types of transformers that let timm build what the configuration says, from a hub too.
TIMM = ("timm_backbone", "timm_wrapper")
#: What classes of transformers that this format runs are called.
_CLASSIFIER = re.compile(r"For(?:Sequence|Image)Classification")
#: Tuning all weights. A rough comparison, 16 examples per class and one or two seeds, on a MiniLM-L6 classifier of
#: reviews: on other reviews .79 untuned, .78 at 2e-5, .76 at 5e-5; on six kinds of question, a new layer,
#: .84 at 5e-5 and .80 at 1e-4 (the layer at 1e-3), .55 with everything at 2e-5.
PLAN = tuning.Plan(rate=2e-5, fresh=5e-5, head=1e-3)


class TransformersFormat:
    """Classifiers of texts and of images of the transformers library, from safetensors."""

    name = "transformers"
    looks_for = f"{CONFIG}, {WEIGHTS} and tokenizer.json, or {PIXELS} for images"

    def recognises(self, folder: Path) -> bool:
        """See ``Format``."""
        if not (folder / CONFIG).is_file() or (folder / "model.onnx").is_file():
            return False
        others = ("*.safetensors", "pytorch_model*.bin", "*.h5", "*.msgpack")
        return any(next(folder.glob(pattern), None) for pattern in others)

    def check(self, folder: Path, schema: Schema) -> dict[str, Any]:
        """See ``Format``."""
        config = read_object(folder / CONFIG)
        check_config(config)
        single = config.get("problem_type") != "regression"
        outputs = len(names_in(config, where=CONFIG))
        check_count(outputs, schema, where=CONFIG, single=single)
        activation(folder, config, outputs)
        weights(folder)
        if reads_images(folder):
            read_pixels(folder)
        elif not (folder / "tokenizer.json").is_file():
            raise ModelError(
                f"tokenizer.json: missing in {folder}", remedy="save it with AutoTokenizer(...).save_pretrained"
            )
        return {}

    def load(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> Model:
        """See ``Format``."""
        self.check(folder, schema)
        network, missing = loading.load_classifier(folder)
        if missing:
            raise ModelError(
                f"{len(missing)} weights are missing ({', '.join(sorted(missing)[:3])})",
                remedy="save the tuned classifier, not the model that it started from",
                about=WEIGHTS,
            )
        columns = self._columns(folder, schema, settings)
        config = read_object(folder / CONFIG)
        after = activation(folder, config, len(names_in(config, where=CONFIG)))
        return loading.model_of(network, folder, schema, columns, folder, after)

    def settle(self, folder: Path, schema: Schema, settings: dict[str, Any], inputs: Sequence[Input]) -> dict[str, Any]:
        """See ``Settles``: the tokenizer, or the preparation of images, is compared with the library's."""
        loading.libraries("a transformers model")
        if reads_images(folder):
            compare_pixels(folder, read_pixels(folder), inputs)
        else:
            config = read_object(folder / CONFIG)
            compare_with_library(folder, TextTokens(folder, positions=positions_of(config)), inputs)
        return settings

    def label_names(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> list[str]:
        """See ``Named``."""
        return both_names(names_in(read_object(folder / CONFIG), where=CONFIG), schema)

    def _columns(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> list[int]:
        if schema.type == "regression":
            return [0]
        return columns_in(settings, self.label_names(folder, schema, settings), schema, where=CONFIG)

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
        self.check(folder, schema)
        loading.libraries("tuning")
        own = tuning.own_names(schema, self._columns(folder, schema, settings))
        outputs = target.classes or 1
        with loading.seeded(seed):
            network, missing = loading.load_classifier(folder, outputs=outputs)
            outside = sorted(name for name in missing if not loading.in_head(name))
            if outside:
                raise ModelError(f"weights are missing ({', '.join(outside[:3])})", about=WEIGHTS)
            layer = tuning.final_layer(network, outputs)
            kept = [] if missing or schema.type != target.type else own
            fresh = tuning.arrange_head(layer, kept, target, _spread(network.config))
            model = loading.model_of(network, folder, target, range(outputs), folder)
            tuning.tune(network, model.tokens, examples, target, layer, PLAN, fresh=fresh, seed=seed, progress=progress)
        write_classifier(network, target, folder, out)


def check_config(config: dict[str, Any]) -> None:
    """Check what a sequence classifier's ``config.json`` says, apart from its labels.

    Raises:
        UnsafeModel: it names code.
        ModelError: it is not a classifier that this format runs.
    """
    check_settings(config, where=CONFIG)
    if not isinstance(config.get("model_type"), str):
        raise ModelError("has no model_type", remedy="save the model again with save_pretrained", about=CONFIG)
    if config["model_type"] in TIMM:
        raise ModelError(
            f"{config['model_type']} hands names and arguments from this file to timm unread",
            remedy="save the model as timm does (timm.models.save_for_hf)",
            about=CONFIG,
        )
    if config.get("problem_type") == "multi_label_classification":
        raise ModelError("several labels for one input (multi_label_classification) are not supported", about=CONFIG)
    built = config.get("architectures")
    if isinstance(built, list) and built and not any(_CLASSIFIER.search(str(name)) for name in built):
        raise ModelError(
            f"architectures is {', '.join(map(str, built))[:80]}, which is not a classifier of texts or images",
            remedy="save the tuned classifier (AutoModelForSequenceClassification), not the model that it started "
            "from, or export an encoder with a head of its own to ONNX",
            about=CONFIG,
        )
    for key in ("quantization_config", "transformers_weights"):
        if config.get(key):
            raise ModelError(f"{key} is not supported", remedy=f"save the plain weights as {WEIGHTS}", about=CONFIG)


def weights(folder: Path) -> list[tuple[Path, SafetensorsHeader]]:
    """The files with the model's weights, and their checked headers.

    Raises:
        ModelError: there are none, or they are damaged.
    """
    if (folder / WEIGHTS).is_file():
        return [(folder / WEIGHTS, header_of(folder / WEIGHTS))]
    if not (folder / INDEX).is_file():
        raise ModelError(
            f"missing in {folder}",
            remedy="save the model with save_pretrained(..., safe_serialization=True), not as pytorch_model.bin",
            about=WEIGHTS,
        )
    table = read_object(folder / INDEX).get("weight_map")
    names = sorted({str(v) for v in table.values()}) if isinstance(table, dict) else []
    if not names or any("/" in n or not n.endswith(".safetensors") for n in names):
        raise ModelError("has no sound weight_map", remedy="save the model again", about=INDEX)
    return [(folder / name, header_of(folder / name)) for name in names]


def _spread(config: Any) -> float:
    return float(getattr(config, "initializer_range", 0.02) or 0.02)


def write_classifier(network: Any, target: Schema, folder: Path, out: Path) -> None:
    """Write a tuned classifier to ``out``, with the tokenizer of ``folder``."""
    names = list(target.labels) if target.type == "classification" else ["value"]
    network.config.id2label = dict(enumerate(names))
    network.config.label2id = {name: index for index, name in enumerate(names)}
    network.config.problem_type = "regression" if target.type == "regression" else None
    out.mkdir(parents=True, exist_ok=True)
    with quiet():
        network.save_pretrained(out)
    copy_tokenizer(folder, out)
    path = out / CONFIG
    config = {k: v for k, v in json.loads(path.read_text("utf-8")).items() if k != "_name_or_path"}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def copy_tokenizer(folder: Path, out: Path) -> None:
    """Copy the tokenizer's files, or what prepares images: those that there are."""
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
