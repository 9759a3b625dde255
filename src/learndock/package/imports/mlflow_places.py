"""Where a model of MLflow is: a folder, a local file store or registry, or an address that MLflow resolves.

mlruns/EXPERIMENT/RUN/artifacts/NAME/MLmodel                  a file store until MLflow 2
mlruns/EXPERIMENT/models/m-ID/artifacts/MLmodel               since MLflow 3
mlruns/models/NAME/meta.yaml, tags/KEY                        a registered model: description, tags
mlruns/models/NAME/version-1/meta.yaml, tags/KEY              its version, and where its files are
"""

from __future__ import annotations

import importlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from learndock.errors import MissingExtra, PackageError, UsageError
from learndock.package.imports.found import read_yaml

MLMODEL = "MLmodel"
#: Folders are looked through so far down for an MLmodel.
_DEPTH = 6
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_REGISTERED = re.compile(r"models:/+([^/@']+)(?:/([^/@]+)|@([^/@]+))")
_LICENSE = "license"
_INSTALL = "pip install mlflow-skinny"


@dataclass(frozen=True)
class Place:
    """A folder with an MLmodel, and what the registry says of the model there."""

    folder: Path
    source: str
    license: str | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@contextmanager
def find_place(source: str) -> Iterator[Place]:
    """Find the model at ``source``, a path or an address; what had to be fetched is deleted afterwards.

    Raises:
        PackageError: there is no model, or there are several.
        UsageError: an address of another kind.
        MissingExtra: MLflow is not installed, and an address needs it.
    """
    address = _ADDRESS.match(source)
    if address is None or address[1] == "file":
        yield _local(_path(source), source)
    elif address[1] in ("runs", "models"):
        with tempfile.TemporaryDirectory(prefix="learndock-") as work:
            yield _fetched(source, Path(work))
    else:
        raise UsageError(
            f"addresses of {address[1]} are not read",
            remedy="use runs:/RUN/NAME, models:/NAME/VERSION, or the path of a folder",
            about=source,
        )


def _path(source: str) -> Path:
    """The path in ``source``, which may be an address of a file."""
    if not source.startswith("file:"):
        return Path(source).expanduser()
    parts = urlsplit(source)
    if parts.netloc not in ("", "localhost"):
        raise UsageError("is a file on another machine", remedy="copy its folder here", about=source)
    return Path(unquote(parts.path))


# --- on this disk ------------------------------------------------------------------------------------------


def _local(path: Path, source: str) -> Place:
    if not path.is_dir():
        raise PackageError(
            "no such folder",
            remedy="give the folder that has the MLmodel file, or runs:/... or models:/...",
            about=path,
        )
    if (path / MLMODEL).is_file():
        return Place(path, source)
    versions = sorted(p.parent for p in path.glob("version-*/meta.yaml"))
    if (path / "meta.yaml").is_file() and versions:
        if len(versions) > 1:
            raise PackageError(
                f"a registered model with {len(versions)} versions",
                remedy=f"name one, such as {versions[-1]}",
                about=path,
            )
        return _registered(versions[0], source)
    if path.name.startswith("version-") and (path / "meta.yaml").is_file():
        return _registered(path, source)
    return Place(_only_below(path), source)


def _only_below(path: Path) -> Path:
    """The one folder below ``path`` with an MLmodel."""
    found = []
    for place, folders, names in os.walk(path):
        if MLMODEL in names:
            found.append(Path(place))
            folders.clear()
        elif len(Path(place).relative_to(path).parts) >= _DEPTH:
            folders.clear()
    if len(found) == 1:
        return found[0]
    if not found:
        raise PackageError(
            f"no {MLMODEL} file here or below", remedy="give the folder of the model that MLflow wrote", about=path
        )
    shown = ", ".join(str(p) for p in sorted(found)[:5]) + (", ..." if len(found) > 5 else "")
    raise PackageError(f"{len(found)} models are below it ({shown})", remedy="give the folder of one", about=path)


def _registered(version: Path, source: str) -> Place:
    """A version in a file registry."""
    meta, model = read_yaml(version / "meta.yaml"), {}
    if (version.parent / "meta.yaml").is_file():
        model = read_yaml(version.parent / "meta.yaml")
    where = meta.get("storage_location") or meta.get("source")
    if not isinstance(where, str) or (_ADDRESS.match(where) and not where.startswith("file:")):
        raise PackageError(
            f"its files are at {where}, not on this disk",
            remedy=f"use models:/{meta.get('name', 'NAME')}/{meta.get('version', 'VERSION')} with MLflow installed",
            about=version,
        )
    folder = _path(where)
    if not (folder / MLMODEL).is_file():
        raise PackageError(
            f"its files should be at {folder}, and are not",
            remedy="was the store moved? give the folder that has the MLmodel file",
            about=version,
        )
    tags = {**_tag_files(version.parent), **_tag_files(version)}
    return _place(folder, source, tags, meta.get("description") or model.get("description"))


def _tag_files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder / "tags").as_posix(): path.read_text(encoding="utf-8", errors="replace").strip()
        for path in sorted((folder / "tags").rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def _place(folder: Path, source: str, tags: Mapping[str, str], description: Any) -> Place:
    """What a registry says, in the words of a card: a tag is KEY:VALUE, and the key ``license`` is the license."""
    words = [
        f"{key}:{value}" if value else key
        for key, value in tags.items()
        if key.lower() != _LICENSE and not key.startswith("mlflow.")
    ]
    license_ = next((value for key, value in tags.items() if key.lower() == _LICENSE and value), None)
    return Place(folder, source, license_, str(description or ""), tuple(words))


# --- at an address -----------------------------------------------------------------------------------------


def _fetched(source: str, work: Path) -> Place:
    """A model that MLflow's own library finds and copies; it is not asked to load it."""
    try:
        mlflow = importlib.import_module("mlflow")
        failed = importlib.import_module("mlflow.exceptions").MlflowException
    except ImportError as error:
        raise MissingExtra(
            f"{source} is an address that MLflow resolves, and it cannot be imported here ({error}): {_INSTALL}, or "
            "give the folder that has the MLmodel file"
        ) from None
    try:
        address, tags, description = _registered_at(mlflow, source)
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=str(work)))
    except (failed, ImportError, OSError) as error:
        raise PackageError(
            f"MLflow could not get it ({' '.join(str(error).split())[:300]})",
            remedy="check the address, and where MLFLOW_TRACKING_URI points",
            about=source,
        ) from None
    found = folder if (folder / MLMODEL).is_file() else _only_below(folder)
    return _place(found, source, tags, description)


def _registered_at(mlflow: Any, source: str) -> tuple[str, dict[str, str], str | None]:
    """The address of the version that ``models:/NAME/VERSION`` or ``@ALIAS`` is now, its tags and its description."""
    registered = _REGISTERED.fullmatch(source.rstrip("/"))
    if registered is None:  # a run's model, or models:/m-ID, which has no name
        return source, {}, None
    client = mlflow.MlflowClient()
    name, version, alias = registered.groups()
    if alias is not None:
        found = client.get_model_version_by_alias(name, alias)
    elif version == "latest":
        newest = client.search_model_versions(f"name='{name}'", max_results=1, order_by=["version_number DESC"])
        if not newest:
            raise PackageError("no such registered model", remedy="check its name", about=source)
        found = newest[0]
    elif version.isdecimal():
        found = client.get_model_version(name, version)
    else:
        raise UsageError(
            "stages of models are not read", remedy=f"use models:/{name}/VERSION or models:/{name}@ALIAS", about=source
        )
    model = client.get_registered_model(name)
    tags = {**dict(model.tags), **dict(found.tags)}
    return f"models:/{name}/{found.version}", tags, found.description or model.description
