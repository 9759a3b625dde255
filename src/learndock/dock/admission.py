"""The checks that a learnware folder must pass before a dock stores anything of it.

They cover safety (no file can run code when loaded), the package (complete, hashes right, what its format requires)
and each spec (made from a model, in the space that the manifest names). No model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from learndock.data.schema import Schema
from learndock.errors import Corrupt, PackageError, SchemaError, SpecError
from learndock.package.formats.registry import get_format
from learndock.package.front_matter import MAX_CARD_BYTES, FrontMatter, decode_card, read_front_matter
from learndock.package.learnware import open_learnware
from learndock.package.manifest import CARD, Manifest, SpecFile
from learndock.package.safety import check_files
from learndock.spec.file import read_spec
from learndock.spec.spec import Spec


@dataclass(frozen=True)
class Admitted:
    """A learnware folder that passed the checks; ``card`` is its ``README.md`` where the manifest does not list it."""

    folder: Path
    manifest: Manifest
    card: bytes | None = None


#: Checks a folder; raises an error that says what is wrong with it.
Admit = Callable[[Path], Admitted]


def admit(folder: Path) -> Admitted:
    """Check a learnware folder.

    Raises:
        UnsafeModel: a file could run code when loaded.
        PackageError: incomplete, other bytes than its manifest says, not what its format asks for, or without a spec.
        SpecError: a spec is damaged, is not a model's, or belongs to another space than the manifest says.
    """
    check_files(folder)
    try:
        manifest = open_learnware(folder, verify=True).manifest
    except Corrupt as error:  # the folder is damaged, not the dock
        raise PackageError(error.message, remedy="pack the learnware again", about=error.about) from None
    get_format(manifest.format).check(folder, manifest.task_schema)
    _check_manifest(manifest, where=str(folder))
    for entry in manifest.specs:
        path = folder / entry.path
        spec = check_spec(read_spec(path), entry, where=str(path))
        if not _same_task(spec, manifest):
            raise SpecError(
                "made for another task than the manifest says", remedy="pack the learnware again", about=path
            )
    return Admitted(folder, manifest, _card(folder, manifest))


def check_card(source: bytes) -> FrontMatter:
    """Check a card, and return what it says.

    Raises:
        PackageError: it is too large, not UTF-8, or its front matter cannot be read.
    """
    return read_front_matter(decode_card(source))


def _card(folder: Path, manifest: Manifest) -> bytes | None:
    path = folder / CARD
    if not path.is_file() or any(file.path == CARD for file in manifest.files):
        return None
    with path.open("rb") as stream:
        source = stream.read(MAX_CARD_BYTES + 1)
    check_card(source)
    return source


def check_spec(spec: Spec, entry: SpecFile, *, where: str) -> Spec:
    """Check that ``spec`` is what ``entry`` of the manifest says, and return it. ``where`` names it in messages.

    Raises:
        SpecError: it is of another kind or space.
    """
    if spec.kind != "model":
        raise SpecError(
            f"a {spec.kind} spec; a learnware needs one of its model",
            remedy="make it with `learndock spec model`",
            about=where,
        )
    if spec.space_id != entry.space_id:
        raise SpecError(
            f"made in space {spec.space_id[:12]}, the manifest says {entry.space_id[:12]} ({entry.space})",
            remedy="pack the learnware again",
            about=where,
        )
    # With two names one space would look like two, or like a space of another author
    if spec.space.get("name", entry.space) != entry.space:
        raise SpecError(
            f"made in the space {str(spec.space['name'])[:80]!r}, the manifest calls it {entry.space[:80]!r}",
            remedy="pack the learnware again",
            about=where,
        )
    return spec


def _same_task(spec: Spec, manifest: Manifest) -> bool:
    try:
        return Schema.from_dict(spec.schema).to_dict() == manifest.task
    except SchemaError:
        return False


def _check_manifest(manifest: Manifest, *, where: str) -> None:
    if not manifest.specs:
        raise PackageError(
            "no specification, so no user could find it",
            remedy="make one with `learndock spec model` or `learndock pack --data`",
            about=where,
        )
    spaces = [s.space_id for s in manifest.specs]
    for entry in manifest.specs:
        if spaces.count(entry.space_id) > 1:
            raise PackageError(f"two specs for the space {entry.space}", remedy="keep one", about=where)
