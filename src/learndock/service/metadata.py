"""What a model says of itself, as hub clients ask for it: tags, library, task, base models, license.

    README.md            its front matter, in YAML: what the owner says
    config.json, ...     what the owner left out and the files show: the library, the task of a known architecture
    learnware.json       of a published learnware: format, task, license, base

Nothing is guessed from a model's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from learndock.errors import LearndockError
from learndock.package.front_matter import load_yaml
from learndock.package.json_file import parse_json
from learndock.package.manifest import CARD, Manifest

#: Bytes of a card's front matter that are read; cards with hundreds of results have about half of this.
MAX_FRONT = 1 << 20
MAX_TAGS, MAX_TAG = 200, 200
_FRONT = re.compile(rb"\A(?:\xef\xbb\xbf)?---[ \t]*\r?\n(.*?)(?:\r?\n)?^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
#: File that shows the library -> its name.
_LIBRARIES = {
    "adapter_config.json": "peft",
    "config_sentence_transformers.json": "sentence-transformers",
    "model.skops": "sklearn",
}
_FILE_TAGS = {".safetensors": "safetensors", ".onnx": "onnx", ".gguf": "gguf"}
#: How the class of a model of transformers ends -> its task.
PIPELINES = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForImageClassification": "image-classification",
    "ForObjectDetection": "object-detection",
    "ForSemanticSegmentation": "image-segmentation",
    "ForAudioClassification": "audio-classification",
    "ForCTC": "automatic-speech-recognition",
    "ForSpeechSeq2Seq": "automatic-speech-recognition",
    "ForDepthEstimation": "depth-estimation",
}
RELATIONS = ("adapter", "finetune", "merge", "quantized")


@dataclass(frozen=True)
class Metadata:
    """``tags`` as clients show them, all others among them; ``data`` is the front matter, ``problem`` why it is not."""

    tags: tuple[str, ...] = ()
    library: str | None = None
    pipeline: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


def front_matter(card: bytes) -> dict[str, Any]:
    """Return the front matter of a card; {} where it has none.

    Raises:
        ValueError: it is not a mapping in plain YAML; the message says what is wrong.
    """
    found = _FRONT.match(card[: MAX_FRONT + 8])
    if found is None:
        if card.startswith(b"---\n") and len(card) > MAX_FRONT:
            raise ValueError(f"its front matter has more than {MAX_FRONT} bytes")
        return {}
    try:
        data = load_yaml(found[1].decode())
    except UnicodeDecodeError:
        raise ValueError("its front matter is not UTF-8") from None
    except ValueError as error:
        raise ValueError(f"its front matter cannot be read: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError("its front matter is not a mapping of names to values")
    text = json.dumps({str(k): v for k, v in data.items()}, default=str, skipkeys=True)
    plain: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return plain


def metadata_of(paths: Collection[str], read: Callable[[str], bytes], manifest: Manifest | None = None) -> Metadata:
    """Return what the files ``paths``, whose bytes ``read`` gives, and a published manifest say of a model."""
    data, problem = {}, None
    if CARD in paths:
        try:
            data = front_matter(read(CARD))
        except ValueError as error:
            problem = str(error)
    config = _json(read, "config.json") if "config.json" in paths else {}
    adapter = _json(read, "adapter_config.json") if "adapter_config.json" in paths else {}
    library = _text(data.get("library_name")) or _library(paths, config)
    pipeline = _text(data.get("pipeline_tag")) or _pipeline(config, library)
    bases = _texts(data.get("base_model"))
    if not bases and _names_a_model(adapter.get("base_model_name_or_path")):
        bases = [adapter["base_model_name_or_path"]]
    if not bases and manifest is not None and manifest.base is not None and _names_a_model(manifest.base.name):
        bases = [manifest.base.name]
    relation = _text(data.get("base_model_relation")) or _relation(paths, library, bases)
    license_ = _text(data.get("license")) or (None if manifest is None else manifest.license)
    kinds = sorted({tag for path in paths for suffix, tag in _FILE_TAGS.items() if path.endswith(suffix)})
    tags = [library, *kinds, _text(config.get("model_type")), *_texts(data.get("tags")), pipeline]
    if manifest is not None:
        tags += ["learnware", manifest.format, manifest.task_schema.type]
    tags += _texts(data.get("language"))
    tags += [f"dataset:{name}" for name in _texts(data.get("datasets"))]
    for base in bases:
        tags += [f"base_model:{base}", *([f"base_model:{relation}:{base}"] if relation in RELATIONS else [])]
    tags += [f"license:{license_.lower()}"] if license_ else []
    shown = {k: v for k, v in config.items() if k in ("architectures", "model_type")}
    if adapter:
        shown["peft"] = {k: adapter.get(k) for k in ("base_model_name_or_path", "task_type")}
    once = dict.fromkeys(tag[:MAX_TAG] for tag in tags if tag)
    return Metadata(tuple(once)[:MAX_TAGS], library, pipeline, data, shown, problem)


# -- inside -----------------------------------------------------------------------------------------------


def _json(read: Callable[[str], bytes], path: str) -> dict[str, Any]:
    try:
        found = parse_json(read(path), where=path)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is neither stored nor sent
    except (LearndockError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _library(paths: Collection[str], config: dict[str, Any]) -> str | None:
    for path, library in _LIBRARIES.items():
        if path in paths:
            return library
    if config.get("architectures") and config.get("model_type"):
        return "transformers"
    return "timm" if config.get("architecture") and "pretrained_cfg" in config else None


def _pipeline(config: dict[str, Any], library: str | None) -> str | None:
    architectures = _texts(config.get("architectures"))
    if library == "sentence-transformers":
        return "sentence-similarity"
    if library == "timm":
        return "image-classification"
    if library != "transformers" or len(architectures) != 1:
        return None
    return next((task for end, task in PIPELINES.items() if architectures[0].endswith(end)), None)


def _relation(paths: Collection[str], library: str | None, bases: list[str]) -> str:
    if library == "peft" or "adapter_config.json" in paths:
        return "adapter"
    if any(path.endswith(".gguf") for path in paths):
        return "quantized"
    return "merge" if len(bases) > 1 else "finetune"


def _names_a_model(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def _text(value: object) -> str | None:
    """Return a value as text where it is one word or number; YAML reads some words otherwise (``no`` is false)."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    # PostgreSQL keeps no NUL in a text.
    return str(value).replace("\0", "").strip() or None if isinstance(value, str | int | float) else None


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for v in values if (text := _text(v)) is not None]
