"""Format ``causal``: a whole causal language model as ``save_pretrained`` writes it.

config.json              architectures that end with ForCausalLM or LMHeadModel
model.safetensors        weights, or model.safetensors.index.json and its parts
tokenizer.json           the tokenizer
generation_config.json   optional: which tokens end an answer, and options that act on it (see ``decoding``)
prompt.json              optional: how prompts are written (see ``_causal``)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import ModelError
from learndock.package.formats import Model, Progress, _causal
from learndock.package.formats._writing import folder_writing, library_writing, settings_of
from learndock.package.formats.transformers import weights
from learndock.package.json_file import read_object
from learndock.package.safety import check_settings
from learndock.spaces.prompts import WRITING

CONFIG = "config.json"


#: Ends of the names of architectures that write texts, but not what follows a prompt alone.
_OTHERS = ("ForConditionalGeneration",)


def is_causal(folder: Path) -> bool:
    """Whether ``config.json`` names an architecture that writes texts."""
    named = read_object(folder / CONFIG).get("architectures")
    return isinstance(named, list) and any(str(n).endswith(WRITING) for n in named)


class CausalFormat:
    """Whole causal language models, from safetensors."""

    name = "causal"
    looks_for = f"{CONFIG} of a ...ForCausalLM or ...LMHeadModel, model.safetensors and tokenizer.json"

    def recognises(self, folder: Path) -> bool:
        """See ``Format``."""
        return (
            (folder / CONFIG).is_file() and next(folder.glob("*.safetensors"), None) is not None and is_causal(folder)
        )

    def check(self, folder: Path, schema: Schema) -> dict[str, Any]:
        """See ``Format``."""
        config = read_object(folder / CONFIG)
        check_settings(config, where=CONFIG)
        if not is_causal(folder):
            raise ModelError("names no architecture of a causal language model", about=CONFIG)
        _require_decoder(config)
        weights(folder)
        return settings_of(folder, schema, folder_writing(folder))

    def load(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> Model:
        """See ``Format``."""
        found = self.check(folder, schema)
        network = _causal.load_causal(folder)
        return _causal.model_of(network, schema, {**found, **settings}, library_writing(folder))

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


def _require_decoder(config: dict[str, Any]) -> None:
    """Refuse models that write, but not what follows a prompt alone, and weights that are not plain.

    Raises:
        ModelError: it has an encoder, reads more than texts, or is quantised.
    """
    if not isinstance(config.get("model_type"), str):
        raise ModelError("has no model_type", remedy="save the model again with save_pretrained", about=CONFIG)
    for key in ("quantization_config", "transformers_weights"):
        if config.get(key):
            raise ModelError(f"{key} is not supported", remedy="save the plain weights as safetensors", about=CONFIG)
    named = [str(n) for n in config["architectures"]]
    if config.get("is_encoder_decoder") or any(n.endswith(_OTHERS) for n in named):
        raise ModelError(
            f"{', '.join(named)} (model_type {config['model_type']}) has an encoder, or reads images or "
            "sound beside texts",
            remedy="only causal language models, which continue a prompt, are read. Save its text model "
            "alone, if it has one",
            about=CONFIG,
        )
