"""Format ``gguf``: a causal language model as GGUF.

NAME.gguf         settings, vocabulary and block-quantised weights; or all parts NAME-00001-of-0000N.gguf
tokenizer.json    optional: for vocabularies that are not read from GGUF
prompt.json       optional: how prompts are written (see ``_causal``)

The weights are read into float32 by NumPy; no library of the format is needed, and no file is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import ModelError
from learndock.package.formats import Model, Progress, _causal
from learndock.package.formats._loading import libraries
from learndock.package.formats._quiet import quiet
from learndock.package.formats._writing import TOKENIZER, Writing, settings_of
from learndock.spaces.gguf import Gguf, read_parts
from learndock.spaces.gguf_model import config, state
from learndock.spaces.gguf_vocabulary import begin_token, chat_template, end_tokens, tokenizer_bytes


class GgufFormat:
    """Causal language models as one GGUF file."""

    name = "gguf"
    looks_for = "one file .gguf, or all parts of one"

    def recognises(self, folder: Path) -> bool:
        """See ``Format``."""
        return next(folder.glob("*.gguf"), None) is not None

    def check(self, folder: Path, schema: Schema) -> dict[str, Any]:
        """See ``Format``; the file's head says whether it is complete."""
        file = _file(folder)
        config(file)
        return settings_of(folder, schema, _writing(folder, file))

    def load(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> Model:
        """See ``Format``."""
        torch, transformers = libraries("a language model")
        found, file = self.check(folder, schema), _file(folder)
        with quiet():
            described = transformers.AutoConfig.for_model(**config(file))
            network = transformers.AutoModelForCausalLM.from_config(described, dtype=torch.float32)
        tensors = {name: torch.from_numpy(values) for name, values in state(file).items()}
        try:
            missing, unexpected = network.load_state_dict(tensors, strict=False)
        except RuntimeError as error:
            text = " ".join(str(error).split())[:300]
            raise ModelError(f"its weights are not those of its settings ({text})", about=file.path.name) from None
        lacking = [m for m in missing if m != "lm_head.weight" or not described.tie_word_embeddings]
        if lacking or unexpected:
            raise ModelError(
                f"its weights are incomplete: {', '.join([*lacking, *unexpected][:3])}", about=file.path.name
            )
        network.tie_weights()
        network.generation_config.eos_token_id = None  # those of the file are ``Writing.ends``
        return _causal.model_of(network.eval(), schema, {**found, **settings}, _writing(folder, file))

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


def _file(folder: Path) -> Gguf:
    return read_parts(list(folder.glob("*.gguf")))


def _writing(folder: Path, file: Gguf) -> Writing:
    own = folder / TOKENIZER
    vocabulary = own.read_bytes() if own.is_file() else tokenizer_bytes(file)
    return Writing(vocabulary, begin_token(file), tuple(end_tokens(file)), chat_template(file))
