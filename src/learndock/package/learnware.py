"""A learnware on disk: opened, verified against its manifest, loaded.

What comes from a dock or a colleague passes here before anything looks inside: every file has the size and
hash that the manifest says, no other file is there, and no file could run code.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learndock.data.schema import Schema
from learndock.errors import Corrupt, NotFound, PackageError
from learndock.files import sha256_file
from learndock.notebook import html_table
from learndock.package.formats import Model
from learndock.package.formats.registry import get_format
from learndock.package.manifest import CARD, MANIFEST, File, Manifest
from learndock.package.safety import check_files

if TYPE_CHECKING:
    from learndock.spec.spec import Spec


@dataclass(frozen=True)
class Learnware:
    """A learnware on disk: its folder and its manifest; get one with ``open_learnware``."""

    folder: Path
    manifest: Manifest

    def __repr__(self) -> str:
        schema = self.schema
        labels = f" of {', '.join(schema.labels)}" if schema.labels else ""
        return f"<Learnware {self.manifest.name}: {self.manifest.format}, {schema.type}{labels}>"

    def _repr_html_(self) -> str:
        manifest = self.manifest
        rows = [
            ("name", manifest.name),
            ("format", manifest.format),
            ("task", manifest.task["type"]),
            ("labels", ", ".join(self.schema.labels)),
            ("license", manifest.license or "-"),
            ("base", manifest.base.name if manifest.base else "-"),
            ("specs", ", ".join(entry.space for entry in manifest.specs) or "-"),
            ("size", f"{sum(file.size for file in manifest.files) / 1e6:.1f} MB in {len(manifest.files)} files"),
            ("folder", str(self.folder)),
        ]
        return html_table(("learnware", ""), rows, caption=manifest.description)

    @property
    def schema(self) -> Schema:
        """The task that the model was trained for."""
        return self.manifest.task_schema

    @property
    def settings(self) -> dict[str, Any]:
        """What the format needs to load the model: the manifest's settings, and its base where it has one."""
        base = self.manifest.base
        return {**self.manifest.settings, **({"base": base.model_dump()} if base else {})}

    def load(self) -> Model:
        """Load the model, after checking again that no file could run code.

        Raises:
            UnsafeModel, ModelError, MissingExtra: see ``Format.load``.
            PackageError: the format is not installed here.
        """
        found = get_format(self.manifest.format)
        check_files(self.folder)
        found.check(self.folder, self.schema)
        return found.load(self.folder, self.schema, self.settings)

    def spec(self, space: str | None = None) -> Spec:
        """The specification for ``space`` (name or id), or the first one.

        Raises:
            NotFound: there is none for that space.
            SpecError: it is damaged.
        """
        from learndock.spec import read_spec

        for entry in self.manifest.specs:
            if space is None or space in (entry.space, entry.space_id):
                return read_spec(self.folder / entry.path)
        there = ", ".join(e.space for e in self.manifest.specs) or "none"
        raise NotFound(f"no spec for the space {space}", remedy=f"it has {there}", about=self.manifest.name)


def open_learnware(folder: str | Path, *, verify: bool = True) -> Learnware:
    """Open a learnware folder, after comparing it with its manifest.

    Args:
        folder: as ``pack`` or ``Dock.get`` made it.
        verify: hash every file; without it only names and sizes are compared.

    Raises:
        PackageError: there is no manifest, a file is missing, or a file is not listed.
        Corrupt: a file is not the one that was packed.

    Example:
        >>> learndock.open_learnware("learnware")
        <Learnware me/reviews: sklearn, classification of negative, positive>
    """
    folder = Path(folder)
    manifest = Manifest.from_folder(folder)
    listed = {f.path: f for f in manifest.files}
    for name in sorted(_names(folder) - set(listed) - {MANIFEST, CARD}):
        raise PackageError(
            f"not listed in {MANIFEST}", remedy="remove it, or get the learnware again", about=folder / name
        )
    # The card is edited after it was packed, also where an older learndock listed it.
    _need_regular(folder / CARD)
    for entry in manifest.files:
        if entry.path != CARD:
            _compare(folder, entry, whole=verify)
    return Learnware(folder, manifest)


def _need_regular(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise PackageError("not a regular file", remedy="get the learnware again", about=path)


def _names(folder: Path) -> set[str]:
    """Every entry below ``folder`` but folders, relative to it; links are entries, and are not followed."""
    found: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=False):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found.update((Path(parent) / name).relative_to(folder).as_posix() for name in [*files, *links])
    return found


def _compare(folder: Path, entry: File, *, whole: bool) -> None:
    path = folder / entry.path
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise PackageError(f"missing, but listed in {MANIFEST}", remedy="get the learnware again", about=path) from None
    if not stat.S_ISREG(status.st_mode):
        raise PackageError("not a regular file", remedy="get the learnware again", about=path)
    if status.st_size != entry.size:
        raise Corrupt(
            f"{status.st_size} bytes, {MANIFEST} says {entry.size}",
            remedy="it is cut off or was changed, get the learnware again",
            about=path,
        )
    if whole:
        digest = sha256_file(path)
        if digest != entry.sha256:
            raise Corrupt(
                f"its SHA-256 is {digest}, {MANIFEST} says {entry.sha256}",
                remedy="it was changed, get the learnware again",
                about=path,
            )
