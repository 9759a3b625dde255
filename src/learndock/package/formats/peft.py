"""Format ``peft``: a LoRA adapter for a classifier of texts or images.

    adapter_config.json          rank, target layers, the name of the base
    adapter_model.safetensors    the matrices A and B, and the trained output layer
    tokenizer.json               optional; the base's is used where it is missing
    preprocessor_config.json     for images, where ``task_type`` is null; optional too

The base does not travel along: the manifest names it and holds the hash of its weights, and it is loaded only
when the hash is right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learndock.data.examples import Examples, Input
from learndock.data.schema import Schema
from learndock.errors import ModelError, UnsafeModel
from learndock.package.columns import NAMES_FILE, columns_in, names_beside, names_in, placeholders
from learndock.package.extras import need
from learndock.package.formats import Model, Progress
from learndock.package.formats import _loading as loading
from learndock.package.formats import _tuning as tuning
from learndock.package.formats._bases import CONFIG as BASE_CONFIG
from learndock.package.formats._bases import base_hash, check_base, find_base
from learndock.package.formats._image_settings import compare_pixels, read_pixels
from learndock.package.formats._outputs import check_count
from learndock.package.formats._pixels import reads_images
from learndock.package.formats._quiet import quiet
from learndock.package.formats._tensors import read_tensor
from learndock.package.formats._tokenizer_settings import compare_with_library, positions_of
from learndock.package.formats._tokens import TextTokens
from learndock.package.formats.transformers import copy_tokenizer
from learndock.package.json_file import read_object
from learndock.package.manifest import Base
from learndock.package.safety import check_settings, header_of
from learndock.tensor_file import SafetensorsHeader

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
#: Tuning A, B and the output layer. A rough comparison like that of ``formats/transformers.py``: on other
#: reviews .80 untuned, .78 at 5e-4, .71 at 2e-3; on six kinds of question .71 at 1e-3 (the layer at 5e-3), .70
#: with everything at 2e-3, .37 with everything at 5e-4.
PLAN = tuning.Plan(rate=5e-4, fresh=1e-3, head=5e-3)

#: Settings that only say which numbers go where; every other one must be off.
_KNOWN = frozenset(
    {
        "alpha_pattern", "base_model_name_or_path", "bias", "exclude_modules", "fan_in_fan_out",
        "inference_mode", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_bias", "lora_dropout",
        "modules_to_save", "peft_type", "r", "rank_pattern", "target_modules", "task_type", "use_dora",
        "use_rslora",
    }
)  # fmt: skip
#: Of the moment of training, or without effect where the settings that use them are off.
_IGNORED = frozenset(
    {
        "auto_mapping",
        "eva_config",
        "init_lora_weights",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
    }
)
LORA = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")
#: Of an embedding A is ``(rank, words)`` and B ``(width, rank)``.
EMBEDDING = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_embedding_(?P<part>[AB])")
#: Ways to begin that leave the base as it is. With the others (pissa, olora, corda, loftq) A and B belong to a base
#: that was changed when training began, and mean nothing on the published one.
_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")
#: Copies of the output layer's bias that PEFT saves with ``bias="all"``, and passes over when it loads.
_COPIES = re.compile(r".*\.(?:modules_to_save|original_module)\.bias")


class PeftFormat:
    """LoRA adapters of classifiers, on a base by name and hash."""

    name = "peft"
    looks_for = f"{CONFIG} and {WEIGHTS}"

    def recognises(self, folder: Path) -> bool:
        """See ``Format``."""
        return (folder / CONFIG).is_file()

    def check(self, folder: Path, schema: Schema) -> dict[str, Any]:
        """See ``Format``; the base is not looked at."""
        config = read_config(folder)
        header = read_header(folder)
        check_ranks(config, header)
        head = _check_head(header, schema)
        check_values(folder / WEIGHTS, header, head)
        return {}

    def bind(self, folder: Path, base: str | None) -> Base:
        """See ``OnBase``. ``base`` names the base where the adapter's own name for it leads nowhere."""
        return bind_base(folder, base)

    def load(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> Model:
        """See ``Format``. ``settings["base"]`` is the manifest's base, name and hash."""
        self.check(folder, schema)
        base = base_folder(settings)
        network, _ = _adapted(folder, base, schema.classes or 1)
        return loading.model_of(
            network.eval(), folder, schema, self._columns(folder, schema, settings), _tokenizer(folder, base)
        )

    def settle(self, folder: Path, schema: Schema, settings: dict[str, Any], inputs: Sequence[Input]) -> dict[str, Any]:
        """See ``Settles``: the tokenizer, or the preparation of images, is compared with the library's."""
        base = base_folder(settings)
        used = _tokenizer(folder, base)
        if reads_images(used):
            compare_pixels(base, read_pixels(used), inputs)
        else:
            tokens = TextTokens(used, positions=positions_of(read_object(base / BASE_CONFIG)))
            compare_with_library(used, tokens, inputs, model=base)
        return settings

    def label_names(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> list[str]:
        """See ``Named``: the adapter's own names, else its base's where it has as many outputs."""
        own = folder / BASE_CONFIG
        names = names_in(read_object(own if own.is_file() else base_folder(settings) / BASE_CONFIG), where=BASE_CONFIG)
        return names if len(names) == schema.classes else placeholders(schema.classes)

    def _columns(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> list[int]:
        if schema.type == "regression":
            return [0]
        names = names_beside(folder) or self.label_names(folder, schema, settings)
        return columns_in(settings, names, schema, where=CONFIG)

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
        """See ``Format``. A, B and the output layer are tuned; other labels get a new output layer."""
        self.check(folder, schema)
        base = base_folder(settings)
        outputs = target.classes or 1
        keep = schema.type == target.type and schema.classes == target.classes
        with loading.seeded(seed):
            network, spread = _adapted(folder, base, outputs, train=True)
            layer = tuning.final_layer(network, outputs)
            own = tuning.own_names(schema, self._columns(folder, schema, settings)) if keep else []
            fresh = tuning.arrange_head(layer, own, target, spread)
            model = loading.model_of(network, folder, target, range(outputs), _tokenizer(folder, base))
            tuning.tune(network, model.tokens, examples, target, layer, PLAN, fresh=fresh, seed=seed, progress=progress)
        out.mkdir(parents=True, exist_ok=True)
        with quiet():
            network.save_pretrained(out, safe_serialization=True, save_embedding_layers=False)
        (out / "README.md").unlink(missing_ok=True)  # written by the library, names paths of this machine
        copy_tokenizer(_tokenizer(folder, base), out)
        _name_base(out / CONFIG, str(read_config(folder).get("base_model_name_or_path")))
        if target.type == "classification":  # an adapter has no other place for the names of its columns
            (out / NAMES_FILE).write_text(json.dumps(list(target.labels), ensure_ascii=False) + "\n", "utf-8")


# --- checks without a library ------------------------------------------------------------------------------


def bind_base(folder: Path, base: str | None, task: str = "SEQ_CLS") -> Base:
    """The base of an adapter for ``task`` by name and hash; the adapter is made to name it.

    Raises:
        ModelError: neither ``base`` nor the adapter names one, or it is nowhere.
    """
    named = base or read_config(folder, task).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise ModelError("names no base model", remedy="give its name or folder with base=", about=CONFIG)
    found = find_base(named)
    name = found.resolve().name if Path(named).is_dir() else named
    _name_base(folder / CONFIG, name)
    return Base(name=name, sha256=base_hash(found))


def read_config(folder: Path, task: str = "SEQ_CLS") -> dict[str, Any]:
    """``adapter_config.json``, checked: a plain LoRA adapter for ``task``."""
    config = read_object(folder / CONFIG)
    check_settings(config, where=CONFIG)
    if config.get("peft_type") != "LORA":
        raise ModelError(
            f"peft_type is {config.get('peft_type')!r}", remedy="only LORA adapters are supported", about=CONFIG
        )
    # PEFT has no name for classifiers of images: their adapters say nothing
    if config.get("task_type") != task and not (task == "SEQ_CLS" and config.get("task_type") is None):
        raise ModelError(
            f"task_type is {config.get('task_type')!r}",
            remedy="SEQ_CLS and CAUSAL_LM are supported, and null for classifiers of images",
            about=CONFIG,
        )
    odd = sorted(k for k, v in config.items() if v and k not in _KNOWN | _IGNORED)
    if config.get("megatron_config"):
        raise UnsafeModel("megatron_config: names a library to import", remedy="train without it", about=CONFIG)
    if odd:
        raise ModelError(f"{', '.join(odd)}: not supported", remedy="use plain LoRA (or DoRA, rsLoRA)", about=CONFIG)
    rank = config.get("r")
    if type(rank) is not int or not 1 <= rank <= 4096:
        raise ModelError(f"r is {rank!r}, expected a rank of 1 to 4096", about=CONFIG)
    if config.get("init_lora_weights", True) not in _BEGINNINGS:
        raise ModelError(
            f"init_lora_weights is {str(config['init_lora_weights'])[:60]!r}: the adapter fits a base that was changed "
            "when its training began",
            remedy="save it with save_pretrained(..., path_initial_model_for_weight_conversion=...)",
            about=CONFIG,
        )
    return config


def read_header(folder: Path) -> SafetensorsHeader:
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"missing in {folder}",
            remedy="save the adapter with save_pretrained(..., safe_serialization=True), not as adapter_model.bin",
            about=WEIGHTS,
        )
    return header_of(folder / WEIGHTS)


def check_ranks(config: Mapping[str, Any], header: SafetensorsHeader) -> None:
    """A is ``(rank, in)``, B is ``(out, rank)``, and the rank is the configuration's."""
    ranks: dict[str, dict[str, int]] = {}
    patterns = config.get("rank_pattern") or {}
    allowed = {config["r"], *(v for v in patterns.values() if type(v) is int)}
    for name, entry in header.tensors.items():
        match = LORA.fullmatch(name) or EMBEDDING.fullmatch(name)
        if match is None:
            continue
        if len(entry.shape) != 2:
            raise ModelError(f"{name} has the shape {list(entry.shape)}, expected a matrix", about=WEIGHTS)
        found = entry.shape[0 if match["part"] == "A" else 1]
        ranks.setdefault(match["module"], {})[match["part"]] = found
        if found not in allowed:
            raise ModelError(
                f"{name} has rank {found}, {CONFIG} says {config['r']}",
                remedy="they do not belong together",
                about=WEIGHTS,
            )
    if not ranks:
        raise ModelError("holds no lora_A and lora_B matrices", remedy="save the adapter again", about=WEIGHTS)
    for module, parts in ranks.items():
        if len(parts) != 2 or len(set(parts.values())) != 1:
            raise ModelError(f"{module} lacks lora_A or lora_B, or their ranks differ", about=WEIGHTS)


def _check_head(header: SafetensorsHeader, schema: Schema) -> list[str]:
    """The names of the output layer's weights: PEFT trains and saves it for sequence classification."""
    names = [n for n in header.tensors if loading.in_head(n) and LORA.fullmatch(n) is None]
    final = [n for n in names if n.endswith(".weight") and ".dense." not in n]
    if not final:
        raise ModelError(
            "has no trained output layer (classifier or score)",
            remedy='train with task_type="SEQ_CLS" so that it is in modules_to_save',
            about=WEIGHTS,
        )
    check_count(header.tensors[final[-1]].shape[0], schema, where=WEIGHTS)
    return names


def check_values(path: Path, header: SafetensorsHeader, head: list[str]) -> None:
    """Refuse what is not finite, and an adapter that changes nothing."""
    moved = False
    for name, entry in header.tensors.items():
        values = read_tensor(path, entry, name=name)
        if not np.isfinite(values).all():
            raise ModelError(f"{name} holds values that are not finite", remedy="training diverged", about=WEIGHTS)
        moves = "lora_B" in name or "lora_embedding_A" in name or name in head
        moved = moved or (moves and bool(values.any()))
    if not moved:
        raise ModelError(
            "every B matrix and the output layer are zero", remedy="the adapter changes nothing", about=WEIGHTS
        )


# --- with the libraries ------------------------------------------------------------------------------------


def base_folder(settings: Mapping[str, Any]) -> Path:
    base = settings.get("base")
    if not isinstance(base, Mapping) or not {"name", "sha256"} <= set(base):
        raise ModelError("the manifest does not name the adapter's base", remedy="pack the adapter again")
    folder = find_base(str(base["name"]))
    check_base(folder, str(base["name"]), str(base["sha256"]))
    return folder


def _tokenizer(folder: Path, base: Path) -> Path:
    return folder if (folder / "tokenizer.json").is_file() or reads_images(folder) else base


def _adapted(folder: Path, base: Path, outputs: int, *, train: bool = False) -> tuple[Any, float]:
    """The base with the adapter on it, and the spread of new weights.

    ``train`` asks for gradients, and allows an output layer of another width, which then gets new weights.
    """
    peft = need("peft", extra="torch", why="a LoRA adapter")
    from safetensors.torch import load_file

    network, missing = loading.load_classifier(base, outputs=outputs)
    if (read_config(folder).get("task_type") is None) != reads_images(base):
        raise ModelError(
            "task_type must be SEQ_CLS for an adapter of texts and null for one of images",
            remedy=f"its base {base.name} reads {'images' if reads_images(base) else 'texts'}",
            about=CONFIG,
        )
    spread = float(getattr(network.config, "initializer_range", 0.02) or 0.02)
    config = known_settings(folder, "SEQ_CLS", inference_mode=not train)
    state = load_file(folder / WEIGHTS)
    unsaved = sorted(n for n in missing if f"base_model.model.{n}" not in state)
    if unsaved:
        raise ModelError(
            f"neither the base nor the adapter holds {', '.join(unsaved[:3])}, which would be random",
            remedy="train on a base that has it, or add it to modules_to_save",
            about=base.name,
        )
    own = {f"base_model.model.{n}": v.detach().clone() for n, v in network.named_parameters()}
    for name in [n for n in state if train and loading.in_head(n) and n in own]:
        state[name] = state[name] if state[name].shape == own[name].shape else own[name]
    try:
        with quiet():
            adapted = peft.get_peft_model(network, peft.LoraConfig(**config))
            result = peft.set_peft_model_state_dict(adapted, state)
    except (ValueError, RuntimeError, TypeError, KeyError) as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"the adapter does not fit its base {base.name} ({text})", about=WEIGHTS) from None
    lacking = [n for n in result.missing_keys if "lora_" in n or "modules_to_save" in n]
    strange = [n for n in result.unexpected_keys if _COPIES.fullmatch(n) is None]
    if strange or lacking:
        some = ", ".join([*strange, *lacking][:3])
        raise ModelError(
            f"the adapter does not fit its base {base.name}: {some}",
            remedy="name the base that it was trained on with --base",
            about=WEIGHTS,
        )
    return adapted, spread


def known_settings(folder: Path, task: str, *, inference_mode: bool) -> dict[str, Any]:
    """The settings of an adapter that say which numbers go where, for ``peft.LoraConfig``.

    Where the adapted layers are said by a pattern, they are taken from the names of the adapter's weights: a pattern
    from a file is never run.
    """
    config = {k: v for k, v in read_config(folder, task).items() if k in _KNOWN}
    config.update(inference_mode=inference_mode, lora_dropout=config.get("lora_dropout") or 0.0)
    if isinstance(config.get("target_modules"), str) or config.get("exclude_modules"):
        names = [LORA.fullmatch(n) or EMBEDDING.fullmatch(n) for n in read_header(folder).tensors]
        config["target_modules"] = sorted({match["module"] for match in names if match is not None})
        for key in ("exclude_modules", "layers_pattern", "layers_to_transform"):
            config.pop(key, None)
    return config


def _name_base(path: Path, name: str) -> None:
    """Write the base's name into the adapter's settings: a path of this machine is of no use elsewhere."""
    config = read_object(path)
    if config.get("base_model_name_or_path") != name:
        config["base_model_name_or_path"] = name
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
