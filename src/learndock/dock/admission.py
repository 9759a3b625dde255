"""What must hold before a dock stores anything of a learnware.

The folder is checked as a package (complete, hashes right), for safety (nothing that could run when loaded),
and each of its specs for being one of a model, in the space that the manifest names. Nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learndock.errors import PackageError, SpecError
from learndock.package.manifest import Manifest, SpecFile
from learndock.spec.spec import Spec


@dataclass(frozen=True)
class Admitted:
    """A learnware folder that may be stored."""

    folder: Path
    manifest: Manifest


#: Checks a folder; raises what is wrong with it.
Admit = Callable[[Path], Admitted]
#: Reads a spec file; raises ``SpecError``.
ReadSpec = Callable[[Path], Spec]


def admit(folder: Path) -> Admitted:
    """Check a learnware folder.

    Raises:
        PackageError: incomplete, or other bytes than its manifest says.
        UnsafeModel: a file could run code when loaded.
        SpecError: a spec is damaged, is not a model's, or belongs to another space than the manifest says.
    """
    from learndock.package.learnware import open_learnware
    from learndock.package.safety import check_files

    learnware = open_learnware(folder, verify=True)
    check_files(folder)
    check_manifest(learnware.manifest, where=str(folder))
    for entry in learnware.manifest.specs:
        admitted_spec(folder / entry.path, entry, where=str(folder / entry.path))
    return Admitted(Path(folder), learnware.manifest)


def check_manifest(manifest: Manifest, *, where: str) -> None:
    """What a dock asks of a manifest beyond its being one.

    Raises:
        PackageError: no spec, two specs for one space, or text that cannot be stored.
    """
    if not manifest.specs:
        raise PackageError(
            f"{where}: no specification, so nobody could find it; make one with `learndock spec model` or "
            "`learndock pack --data`"
        )
    spaces = [s.space_id for s in manifest.specs]
    for entry in manifest.specs:
        if spaces.count(entry.space_id) > 1:
            raise PackageError(f"{where}: two specs for the space {entry.space}; keep one")
    try:
        manifest.to_bytes()
    except UnicodeEncodeError as error:
        raise PackageError(f"{where}: its manifest holds text that is not Unicode ({error.reason})") from None


def admitted_spec(path: Path, entry: SpecFile, *, where: str, read: ReadSpec | None = None) -> Spec:
    """The spec in ``path``, if it is what ``entry`` of the manifest says; ``where`` names it in messages.

    Raises:
        SpecError: it is not.
    """
    spec = (read or _read_spec)(path)
    if spec.kind != "model":
        raise SpecError(f"{where}: a {spec.kind} spec; a learnware needs one made by `learndock spec model`")
    if spec.space_id != entry.space_id:
        raise SpecError(
            f"{where}: made in space {spec.space_id[:12]}, the manifest says {entry.space_id[:12]} "
            f"({entry.space}); pack the learnware again"
        )
    for part, vector in (("domain", spec.domain), ("behaviour", spec.behaviour)):
        if vector.ndim != 1 or not vector.size:
            raise SpecError(f"{where}: its {part} is not a vector, its shape is {vector.shape}")
        if not np.isfinite(vector).all():
            raise SpecError(f"{where}: its {part} holds NaN or infinity")
        if not vector.any():
            raise SpecError(f"{where}: its {part} is all zero")
    return spec


def _read_spec(path: Path) -> Spec:
    from learndock.spec import read_spec

    return read_spec(path)
