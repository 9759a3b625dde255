"""Models of MLflow: the folder that ``log_model`` and ``save_model`` write, read without MLflow and without loading it.

    MLmodel                     YAML: which library's format, the signature, metadata
    model.skops, model.onnx     the model of the flavors sklearn and onnx
    model/, components/         the model and the tokenizer or image processor of the flavor transformers
    requirements.txt, ...       an environment, which a learnware has no use for

Pickles are refused; MLflow writes them for scikit-learn unless it is asked for ``serialization_format="skops"``.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from learndock.errors import ModelError, PackageError, UnsafeModel, UsageError
from learndock.files import atomic_write
from learndock.package.columns import NAMES_FILE
from learndock.package.imports.found import Found, bring, files_below, read_yaml, text_of
from learndock.package.imports.mlflow_places import MLMODEL, Place, find_place
from learndock.package.manifest import CARD
from learndock.strict_json import strict_json

#: What MLflow calls the tasks of transformers that a learnware can do.
TASKS = ("text-classification", "sentiment-analysis", "image-classification", "text-generation")
#: Where mlflow.transformers puts what prepares the inputs.
_PARTS = ("tokenizer", "image_processor", "feature_extractor", "processor")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_CARD_DATA, _CARD_TEXT = "model_card_data.yaml", "model_card.md"


@contextmanager
def open_mlflow(source: str, *, beside: Sequence[Path] = ()) -> Iterator[Found]:
    """Bring the model at ``source`` into a temporary folder that ``pack`` takes.

    ``source`` is a folder with an MLmodel file, one above exactly one such folder, a version of a local file registry,
    or an address ``runs:/...`` or ``models:/...``. ``beside`` are files to put beside the model, such as the
    ``tokenizer.json`` of an ONNX graph, which MLflow does not keep.

    Raises:
        PackageError: there is no such model, or its MLmodel cannot be read.
        UnsafeModel: it is a pickle, or brings code.
        ModelError: its flavor, task or signature is none that a learnware can have.
        MissingExtra: an address, and MLflow is not installed.
        UsageError: a file of ``beside`` is missing, or is one that the model has.
    """
    with find_place(source) as place, tempfile.TemporaryDirectory(prefix="learndock-") as work:
        folder = Path(work) / "model"
        folder.mkdir()
        found = _gather(place, folder)
        for file in beside:
            if not file.is_file():
                raise UsageError("no such file to put beside the model", remedy="check the path", about=file)
            if (folder / file.name).exists():
                raise UsageError("the model has a file of this name", remedy="leave it out of --with", about=file)
            bring(file, folder / file.name, within=file.resolve().parent)
        yield found.with_card()


def _gather(place: Place, folder: Path) -> Found:
    """Copy the model's files into ``folder``, and say what is known of it."""
    about = place.folder / MLMODEL
    said = read_yaml(about)
    flavors = said.get("flavors")
    flavors = flavors if isinstance(flavors, dict) else {}
    metadata = said.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = next((n for n in _READERS if isinstance(flavors.get(n), dict)), None)
    if name is None:
        there = ", ".join(str(n) for n in flavors if n != "python_function") or "python_function alone"
        raise ModelError(
            f"its flavors ({there}) are none that learndock reads",
            remedy=f"log it as one of {', '.join(_READERS)}, or convert the model and use `learndock pack`",
            about=about,
        )
    flavor = flavors[name]
    if flavor.get("code"):
        raise UnsafeModel(
            "the model comes with code of its own (code_paths)", remedy="export it to ONNX and log that", about=about
        )
    remarks = [*place.remarks, *_READERS[name](place.folder, folder, flavor), *_signature(said, about, name)]
    task = metadata.get("task") or flavor.get("task")
    if task is not None and name == "transformers" and task not in TASKS:
        raise ModelError(f"its task is {task!r}", remedy=f"learnwares do {', '.join(TASKS)}", about=about)
    labels = metadata.get("labels")
    if labels is not None:
        _write_labels(folder, labels, about)
    license_ = place.license or metadata.get("license")
    return Found(
        folder,
        place.source,
        None if license_ is None else text_of(license_, what="license", about=about),
        place.description or _text_or_none(metadata.get("description"), "description", about) or "",
        (*place.tags, *_words(metadata.get("tags"), about)),
        tuple(remarks),
    )


def _text_or_none(value: Any, what: str, about: Path) -> str | None:
    return None if value is None else text_of(value, what=what, about=about)


def _words(value: Any, about: Path) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, dict):
        return tuple(f"{k}:{v}" if str(v) else str(k) for k, v in value.items())
    return tuple(text_of(each, what="tags", about=about) for each in (value if isinstance(value, list) else [value]))


def _write_labels(folder: Path, labels: Any, about: Path) -> None:
    if not isinstance(labels, list) or not all(isinstance(each, str) for each in labels):
        raise PackageError(
            "its metadata's labels are not a list of texts", remedy="name them in the model's order", about=about
        )
    with atomic_write(folder / NAMES_FILE) as stream:
        stream.write(json.dumps(labels).encode())


# --- the flavors -------------------------------------------------------------------------------------------


def _sklearn(source: Path, folder: Path, flavor: dict[str, Any]) -> list[str]:
    how = flavor.get("serialization_format")
    if how != "skops":
        raise UnsafeModel(
            f"{flavor.get('pickled_model') or 'the model'} is a pickle (serialization_format {how}), which can run "
            "code when loaded",
            remedy="load it where you trust it, and log it again with "
            'mlflow.sklearn.log_model(..., serialization_format="skops")',
            about=source / MLMODEL,
        )
    bring(_inside(source, flavor.get("pickled_model"), "pickled_model"), folder / "model.skops", within=source)
    return []


def _onnx(source: Path, folder: Path, flavor: dict[str, Any]) -> list[str]:
    graph = _inside(source, flavor.get("data"), "data")
    bring(graph, folder / "model.onnx", within=source)
    # MLflow writes weights beside the graph, under a name of random digits
    for name in files_below(graph.parent):
        if "/" not in name and name.endswith((".data", ".onnx_data")):
            bring(graph.parent / name, folder / name, within=source)
    return []


def _transformers(source: Path, folder: Path, flavor: dict[str, Any]) -> list[str]:
    where = flavor.get("model_binary")
    came = flavor.get("source_model_name")
    if flavor.get("peft") or flavor.get("peft_adaptor"):
        raise ModelError(
            "is an adapter on a model that MLflow does not keep",
            remedy="pack the folder of the adapter itself with `learndock pack`",
            about=source / MLMODEL,
        )
    if where is None:
        raise ModelError(
            f"MLflow kept only the name of the model ({came}), not its weights",
            remedy="write them there with mlflow.transformers.persist_pretrained_model, or use "
            f"`learndock import hub {came}`",
            about=source / MLMODEL,
        )
    brought: dict[str, str] = {}
    for part in (_inside(source, where, "model_binary"), *(source / "components" / name for name in _PARTS)):
        for name in files_below(part) if part.is_dir() else ():
            if name in brought and (part / name).read_bytes() != (folder / name).read_bytes():
                raise ModelError(f"{name} is in {brought[name]} and, with other content, in {part.name}", about=source)
            bring(part / name, folder / name, within=source)
            brought[name] = part.name
    license_ = source / "LICENSE.txt"
    # Where MLflow found no license it writes a file that says so
    if license_.is_file() and not license_.read_bytes().startswith(b"A license file could not be found"):
        bring(license_, folder / license_.name, within=source)
    named = isinstance(came, str) and _HUB_NAME.fullmatch(came)
    return [*_model_card(source, folder), *([f"MLflow says that its weights came from {came}"] if named else [])]


def _model_card(source: Path, folder: Path) -> list[str]:
    """Write the card of the hub that MLflow keeps in two files."""
    header, text = source / _CARD_DATA, source / _CARD_TEXT
    if (folder / CARD).exists() or not (header.is_file() or text.is_file()):
        return []
    import yaml

    body = text.read_text(encoding="utf-8", errors="replace") if text.is_file() else ""
    front = yaml.safe_dump(read_yaml(header), allow_unicode=True, sort_keys=False) if header.is_file() else ""
    card = body if body.startswith("---") or not front else f"---\n{front}---\n\n{body}"
    (folder / CARD).write_text(card, encoding="utf-8", newline="")
    return []


_READERS: dict[str, Callable[[Path, Path, dict[str, Any]], list[str]]] = {
    "transformers": _transformers,
    "onnx": _onnx,
    "sklearn": _sklearn,
}


def _inside(source: Path, name: Any, key: str) -> Path:
    """The file or folder of the model that MLmodel names; never one outside of it."""
    about = source / MLMODEL
    path = PurePosixPath(text_of(name, what=key, about=about))
    if path.is_absolute() or ".." in path.parts:
        raise UnsafeModel(f"its {key} leads out of the model's folder ({name})", about=about)
    if not (source / path).exists():
        raise PackageError(f"its {key} names {name}, which is missing", about=about)
    return source / path


def _signature(said: dict[str, Any], about: Path, flavor: str) -> list[str]:
    """Check that a scikit-learn model takes one text, where MLmodel says what it takes; a remark on the column."""
    signature = said.get("signature")
    inputs = signature.get("inputs") if isinstance(signature, dict) else None
    if inputs is None or flavor != "sklearn":
        return []
    try:
        columns = strict_json(text_of(inputs, what="signature", about=about))
    except ValueError as error:
        raise PackageError(f"its signature is not JSON ({error})", about=about) from None
    if not isinstance(columns, list) or not all(isinstance(c, dict) for c in columns):
        raise PackageError("its signature is not a list of columns", about=about)
    kinds = [_kind(column) for column in columns]
    # Whatever number of numbers it takes, as a tensor or as columns: a text pipeline takes one column of texts
    if len(columns) != 1 or kinds[0] not in ("string", "object", "str"):
        shown = ", ".join(f"{c.get('name', 'unnamed')}: {k}" for c, k in zip(columns[:4], kinds, strict=False))
        raise ModelError(
            f"it takes {len(columns)} column{'' if len(columns) == 1 else 's'} ({shown}), by its signature",
            remedy="learndock reads texts, images and prompts; columns of numbers are not read",
            about=about,
        )
    name = columns[0].get("name")
    return [f"MLmodel calls the text's column {name!r}; name yours with --text"] if name not in (None, "text") else []


def _kind(column: dict[str, Any]) -> str:
    spec = column.get("tensor-spec")
    return str(spec.get("dtype") if isinstance(spec, dict) else column.get("type"))
