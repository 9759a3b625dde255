"""Format ``causal-peft``: a LoRA adapter for a causal language model.

    adapter_config.json          rank, target layers, the name of the base; task_type CAUSAL_LM
    adapter_model.safetensors    the matrices A and B, and nothing else
    prompt.json                  optional: how prompts are written (see ``_causal``)

The base is not part of the learnware: the manifest names it, with the hash of its weights. Several adapters on one base
share it in memory (``stand_on``), and a switch between them copies nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import ModelError
from learndock.package.extras import need
from learndock.package.formats import Model, Progress, _causal
from learndock.package.formats import peft as classifiers
from learndock.package.formats._bases import find_base
from learndock.package.formats._quiet import quiet
from learndock.package.formats._writing import (
    TOKENIZER,
    asked_format,
    folder_writing,
    library_writing,
    settings_of,
)
from learndock.package.json_file import read_object
from learndock.package.manifest import Base
from learndock.package.safety import header_of

CONFIG, WEIGHTS = classifiers.CONFIG, classifiers.WEIGHTS
TASK = "CAUSAL_LM"
#: What DoRA adds to a layer's matrices.
_MAGNITUDE = re.compile(r"base_model\.model\..+\.lora_magnitude_vector(\.weight)?")
#: The embedding of the base, which PEFT saves beside LoRA on it.
_COPY = re.compile(r"base_model\.model\.(?P<module>.+)\.base_layer\.weight")


class CausalPeftFormat:
    """LoRA adapters of causal language models, on a base by name and hash."""

    name = "causal-peft"
    looks_for = f"{CONFIG} with task_type {TASK}, and {WEIGHTS}"

    def recognises(self, folder: Path) -> bool:
        """See ``Format``."""
        return (folder / CONFIG).is_file() and read_object(folder / CONFIG).get("task_type") == TASK

    def check(self, folder: Path, schema: Schema) -> dict[str, Any]:
        """See ``Format``; the base is not looked at."""
        config = classifiers.read_config(folder, TASK)
        if config.get("modules_to_save"):
            raise ModelError(
                f"modules_to_save names {config['modules_to_save']}: whole layers beside the adapter, which "
                "servers do not switch",
                remedy="train without it, or merge and pack the whole model",
                about=CONFIG,
            )
        header = classifiers.read_header(folder)
        foreign = [name for name in sorted(header.tensors) if not _belongs(name, config, header.tensors)]
        if foreign:
            raise ModelError(
                f"has {', '.join(foreign[:3])} beside lora_A and lora_B", remedy="train plain LoRA", about=WEIGHTS
            )
        classifiers.check_ranks(config, header)
        classifiers.check_values(folder / WEIGHTS, header, [])
        asked_format(folder)
        return {"answers": "options" if schema.classes else "greedy"}

    def bind(self, folder: Path, base: str | None) -> Base:
        """See ``OnBase``."""
        found = classifiers.bind_base(folder, base, TASK)
        _check_shapes(folder, find_base(base or found.name), found.name)
        return found

    def settle(self, folder: Path, schema: Schema, settings: dict[str, Any], inputs: Any) -> dict[str, Any]:
        """See ``Settles``: how prompts are written depends on the base's vocabulary."""
        name = classifiers.read_config(folder, TASK)["base_model_name_or_path"]
        base = find_base(str(name))
        return {**settings, **settings_of(folder, schema, folder_writing(base, _tokens(folder, base)))}

    def load(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> Model:
        """See ``Format``. ``settings["base"]`` is the manifest's base, name and hash."""
        return stand_on([(folder, schema, settings)])[0]

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
        """See ``Format``: not done here."""
        raise _causal.not_tuned(self.name)


def stand_on(adapters: list[tuple[Path, Schema, Mapping[str, Any]]]) -> list[_causal.CausalModel]:
    """Models for adapters ``(folder, schema, settings)`` of one base, which is loaded once.

    Raises:
        ModelError: their bases differ, or an adapter does not fit.
    """
    peft = need("peft", extra="torch", why="a LoRA adapter")
    bases = {str(dict(s.get("base") or {}).get("sha256")) for _, _, s in adapters}
    if len(bases) != 1:
        raise ModelError("these adapters have different bases", remedy="they cannot share one model")
    base = classifiers.base_folder(dict(adapters[0][2]))
    network: Any = None
    models = []
    for number, (folder, schema, settings) in enumerate(adapters):
        CausalPeftFormat().check(folder, schema)
        _check_shapes(folder, base, str(settings["base"]["name"]))
        name = f"adapter{number}"
        config = peft.LoraConfig(**classifiers.known_settings(folder, TASK, inference_mode=True))
        try:
            with quiet():
                if network is None:
                    network = peft.PeftModelForCausalLM(_causal.load_causal(base), config, adapter_name=name)
                else:
                    network.add_adapter(name, config)
                _fill(peft, network, folder, name)
        except (ValueError, RuntimeError, TypeError, KeyError) as error:
            text = " ".join(str(error).split())[:300]
            raise ModelError(f"the adapter does not fit its base {base.name} ({text})", about=folder.name) from None
        writing = library_writing(base, _tokens(folder, base))
        found = {**settings_of(folder, schema, writing), **settings}
        models.append(_causal.model_of(network.eval(), schema, found, writing, name))
    models[0].speak()
    return models


def _belongs(name: str, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> bool:
    """Whether a tensor is a part of LoRA, or of DoRA where the settings say so."""
    if classifiers.LORA.fullmatch(name) or classifiers.EMBEDDING.fullmatch(name):
        return True
    copy = _COPY.fullmatch(name)
    if copy is not None:
        return f"base_model.model.{copy['module']}.lora_embedding_A" in tensors
    return bool(config.get("use_dora")) and _MAGNITUDE.fullmatch(name) is not None


def _fill(peft: Any, network: Any, folder: Path, name: str) -> None:
    from safetensors.torch import load_file

    state = load_file(folder / WEIGHTS)
    own = dict(network.named_parameters())
    for key in [k for k in state if _COPY.fullmatch(k)]:
        # Several adapters share the base: none may bring another embedding
        if key not in own or not bool(state.pop(key).float().equal(own[key])):
            raise ModelError(f"{key} is not the embedding of the base", remedy="train plain LoRA", about=folder.name)
    result = peft.set_peft_model_state_dict(network, state, adapter_name=name)
    lacking = [k for k in result.missing_keys if "lora_" in k and f".{name}" in k]
    if result.unexpected_keys or lacking:
        raise ModelError(
            f"does not fit its base: {', '.join([*result.unexpected_keys, *lacking][:3])}", about=folder.name
        )


def _check_shapes(folder: Path, base: Path, name: str) -> None:
    """Compare the adapter's matrices with the layers of the base, by the heads of both files alone.

    Raises:
        ModelError: a layer is not there, or of another size.
    """
    header = classifiers.read_header(folder)
    theirs = header_of(base / "model.safetensors").tensors
    for tensor, entry in header.tensors.items():
        match = classifiers.LORA.fullmatch(tensor) or classifiers.EMBEDDING.fullmatch(tensor)
        if match is None:
            continue
        module = match["module"]
        # Weights saved without their head leave out the name of the model's body
        layer = theirs.get(f"{module}.weight") or theirs.get(f"{module.partition('.')[2]}.weight")
        if layer is None:
            raise ModelError(
                f"adapts {module}, which the base {name} does not have", remedy="is it the base?", about=WEIGHTS
            )
        # Layers of GPT-2's kind are stored the other way round; PEFT finds out later which it is
        side, want = (entry.shape[1], layer.shape[-1]) if match["part"] == "A" else (entry.shape[0], layer.shape[0])
        if side not in layer.shape:
            raise ModelError(
                f"{tensor} has {side} where the base {name} has {want}",
                remedy="the adapter was trained on another",
                about=WEIGHTS,
            )


def _tokens(folder: Path, base: Path) -> Path:
    """Where the tokenizer is: beside the adapter, as transformers takes it, or the base's."""
    return folder if (folder / TOKENIZER).is_file() else base
