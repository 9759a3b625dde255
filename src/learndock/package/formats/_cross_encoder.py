"""Read what sentence-transformers says beside a transformers classifier that it calls a cross encoder.

``CrossEncoder.predict`` puts a function after the last layer, which has moved between files: ``config.json`` under one
of two keys, and ``config_sentence_transformers.json`` since version 6. Where none names it, a cross encoder of one
output takes the sigmoid. Other settings that change what the model is given are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from learndock.errors import ModelError
from learndock.package.json_file import read_json, read_object

SETTINGS, MODULES, TRANSFORMER = "config_sentence_transformers.json", "modules.json", "sentence_bert_config.json"
#: What comes after the last layer: ``softmax`` over classes, ``sigmoid`` of each, or nothing (values).
Activation = Literal["softmax", "sigmoid", "none"]
_KNOWN: dict[str, Activation] = {"Sigmoid": "sigmoid", "Identity": "none", "Softmax": "softmax"}
_REMEDY = "save a plain classifier with transformers, or export the model to ONNX"


def activation(folder: Path, config: Mapping[str, Any], outputs: int) -> Activation:
    """What comes after the last layer of the classifier in ``folder`` with so many ``outputs``.

    Without a word from sentence-transformers that is the softmax; of one output the caller knows what it is.

    Raises:
        ModelError: a function, or a setting of sentence-transformers, that is not known here.
    """
    said = config.get("sentence_transformers")
    named = said.get("activation_fn") if isinstance(said, dict) else None
    named = named or config.get("sbert_ce_default_activation_function")
    if (folder / SETTINGS).is_file():
        more = read_object(folder / SETTINGS)
        if more.get("model_type") == "CrossEncoder":
            _check(folder, more)
            named = named or more.get("activation_fn") or ("Sigmoid" if outputs == 1 else "Identity")
    if named is None:
        return "softmax"
    name = str(named).rsplit(".", 1)[-1]
    if name not in _KNOWN:
        raise ModelError(
            f"the activation {str(named)[:80]} is not supported",
            remedy=f"known are {', '.join(_KNOWN)}",
            about=SETTINGS,
        )
    return _KNOWN[name]


def _check(folder: Path, said: Mapping[str, Any]) -> None:
    """Refuse prompts before texts, and layers behind the transformer."""
    if said.get("default_prompt_name"):
        raise ModelError(
            f"default_prompt_name is {str(said['default_prompt_name'])[:60]!r}: a prompt before each text is not added "
            "here",
            remedy=_REMEDY,
            about=SETTINGS,
        )
    modules = read_json(folder / MODULES) if (folder / MODULES).is_file() else []
    if not isinstance(modules, list) or len(modules) > 1:
        raise ModelError("has layers behind the transformer", remedy=_REMEDY, about=MODULES)


def length_of(folder: Path) -> int | None:
    """The longest text in tokens that sentence-transformers reads, where the folder says so."""
    if not (folder / TRANSFORMER).is_file():
        return None
    found = read_object(folder / TRANSFORMER).get("max_seq_length")
    return found if type(found) is int and found > 0 else None
