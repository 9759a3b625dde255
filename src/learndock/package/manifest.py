"""The learnware folder's own account of itself: ``learnware.json``.

A learnware is a folder that other tools load unchanged: the model's files lie at its root, beside

    learnware.json        this manifest, written last
    README.md             the card, for people; not listed, because it may change (see ``front_matter``)
    specs/NAME.spec       one specification for each space

The manifest lists every other file with its size and SHA-256; that of learndock 0.1.0 lists the card too. It holds no
time and no machine name, so that packing the same things twice gives the same bytes, and its hash names the content:
``owner/name@sha256``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from learndock.data.schema import Schema
from learndock.errors import PackageError, SchemaError
from learndock.package.json_file import parse_json

MANIFEST = "learnware.json"
CARD = "README.md"
MAX_MANIFEST_BYTES = 4 << 20

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,126}")
_SHA256 = r"^[0-9a-f]{64}$"

Sha256 = Annotated[str, Field(pattern=_SHA256)]


def check_name(name: str) -> str:
    """Return ``name`` if it is ``owner/name`` in plain characters.

    Raises:
        PackageError: it is not.
    """
    parts = name.split("/")
    if len(parts) != 2 or not all(_NAME.fullmatch(p) and ".." not in p and "--" not in p for p in parts):
        raise PackageError(
            f'"{name}" is not a learnware name', remedy='write owner/name with letters, digits, ".", "_" and "-"'
        )
    return name


def check_path(path: str) -> str:
    """Return ``path`` if it is a plain relative path below the folder: no ``..``, no root, no odd characters.

    Raises:
        PackageError: it is not.
    """
    parts = path.split("/")
    plain = all(_PART.fullmatch(p) and not p.endswith((" ", ".")) for p in parts)
    if not plain or len(path) > 512 or len(parts) > 8:
        raise PackageError(
            f"{path[:100]!r} is not a plain file path",
            remedy="use letters, digits, ._- and spaces, at most 8 parts, and no ..",
        )
    return path


def is_base_name(name: str) -> bool:
    """Return whether a base is named by NAME or OWNER/NAME, not by a path or an address."""
    parts = name.split("/")
    return len(parts) <= 2 and all(_PART.fullmatch(p) and ".." not in p for p in parts)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Strict):
    """One file of a learnware."""

    path: str
    size: int = Field(ge=0)
    sha256: Sha256

    @field_validator("path")
    @classmethod
    def _plain(cls, path: str) -> str:
        try:
            return check_path(path)
        except PackageError as error:
            raise ValueError(str(error)) from None


class SpecFile(_Strict):
    """Which file is the spec for which space."""

    path: str
    space: str
    space_id: Sha256


class Base(_Strict):
    """The model that an adapter was trained on: its name, and the hash of its weights."""

    name: str
    sha256: Sha256

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not is_base_name(name):
            raise ValueError(f"{name[:80]!r} is not the name of a base; write NAME or OWNER/NAME, never a path")
        return name


class Manifest(_Strict):
    """``learnware.json``, checked."""

    learnware: Literal[1] = 1
    name: str
    format: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    task: dict[str, Any]
    description: str = ""
    license: str | None = None
    base: Base | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    specs: tuple[SpecFile, ...] = ()
    files: tuple[File, ...]

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        try:
            return check_name(name)
        except PackageError as error:
            raise ValueError(str(error)) from None

    @field_validator("task")
    @classmethod
    def _task(cls, task: dict[str, Any]) -> dict[str, Any]:
        try:
            return Schema.from_dict(task).to_dict()
        except SchemaError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        paths = [f.path for f in self.files]
        if len({p.casefold() for p in paths}) != len(paths):
            raise ValueError("two files have the same path")
        if MANIFEST in paths:
            raise ValueError(f"{MANIFEST} cannot list itself")
        missing = [s.path for s in self.specs if s.path not in paths]
        if missing:
            raise ValueError(f"specs name files that are not listed: {', '.join(missing)}")
        return self

    @property
    def task_schema(self) -> Schema:
        """The task that the model was trained for."""
        return Schema.from_dict(self.task)

    def to_bytes(self) -> bytes:
        """The one byte string of this manifest (what is hashed and stored)."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False)
        return (text + "\n").encode()

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of ``to_bytes``; ``owner/name@digest`` is the learnware's id."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def id(self) -> str:
        """``owner/name@sha256``."""
        return f"{self.name}@{self.digest}"

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Manifest:
        """Return a changed copy (see pydantic); its digest is its own."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("digest", None)
        return copied

    @classmethod
    def from_bytes(cls, source: bytes, *, where: str = MANIFEST) -> Manifest:
        """Read a manifest.

        Raises:
            PackageError: not JSON, not a manifest, or one that contradicts itself.
        """
        if len(source) > MAX_MANIFEST_BYTES:
            raise PackageError(f"{len(source)} bytes are too many for a manifest", about=where)
        try:
            found = cls.model_validate(parse_json(source, where=where, error=PackageError))
            _ = found.digest  # text that is not Unicode is refused here
            return found
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(p) for p in first["loc"]) or "manifest"
            raise PackageError(f"{place}: {first['msg']}", about=where) from None
        except UnicodeEncodeError as error:
            raise PackageError(f"its manifest holds text that is not Unicode ({error.reason})", about=where) from None
        except (ValueError, RecursionError) as error:
            raise PackageError(f"not a manifest ({error})", about=where) from None

    @classmethod
    def from_folder(cls, folder: str | Path) -> Manifest:
        """Read ``folder/learnware.json``.

        Raises:
            PackageError: there is none, or it is not a manifest.
        """
        path = Path(folder) / MANIFEST
        try:
            source = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise PackageError(
                f"no {MANIFEST} here", remedy="make a learnware with `learndock pack`", about=folder
            ) from None
        except OSError as error:
            raise PackageError(f"cannot be read ({error.strerror})", about=path) from None
        return cls.from_bytes(source, where=str(path))


def suffix(path: str) -> str:
    """The lower-case last suffix of a path inside a learnware."""
    return PurePosixPath(path).suffix.lower()
