"""Format ``causal``: a whole causal language model as ``save_pretrained`` writes it.

config.json          architectures that end with ForCausalLM
model.safetensors    weights, or model.safetensors.index.json and its parts
tokenizer.json       the tokenizer
prompt.json          optional: how prompts are written (see ``_causal``)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import ModelError
from learndock.package.formats import Model, Progress, _causal
from learndock.package.formats.transformers import check_config, weights
from learndock.package.json_file import read_object
from learndock.package.safety import check_settings

CONFIG = "config.json"


def is_causal(folder: Path) -> bool:
    """Whether ``config.json`` names an architecture of a causal language model."""
    named = read_object(folder / CONFIG).get("architectures")
    return isinstance(named, list) and any(str(n).endswith("ForCausalLM") for n in named)


class CausalFormat:
    """Whole causal language models, from safetensors."""

    name = "causal"
    looks_for = f"{CONFIG} of a ...ForCausalLM, model.safetensors and tokenizer.json"

    def recognises(self, folder: Path) -> bool:
        """See ``Format``."""
        return (
            (folder / CONFIG).is_file() and next(folder.glob("*.safetensors"), None) is not None and is_causal(folder)
        )

    def check(self, folder: Path, schema: Schema) -> dict[str, Any]:
        """See ``Format``."""
        config = read_object(folder / CONFIG)
        check_settings(config, where=CONFIG)
        check_config(config)
        if not is_causal(folder):
            raise ModelError(f"{CONFIG}: names no architecture of a causal language model")
        weights(folder)
        return _causal.settings_of(folder, schema, _causal.tokenizer_of(folder), config.get("eos_token_id"))

    def load(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> Model:
        """See ``Format``."""
        found = self.check(folder, schema)
        network = _causal.load_causal(folder)
        return _causal.model_of(network, schema, {**found, **settings}, _causal.tokenizer_of(folder))

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
