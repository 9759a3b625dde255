"""Make a learnware of a trained model: check, copy, run, specify, describe, and the manifest last.

The owner's step. Everything happens in a temporary folder beside the destination, which is renamed into place
at the end: the learnware is there whole, or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from learndock.data.examples import Examples
from learndock.data.metrics import score
from learndock.data.schema import Schema
from learndock.errors import DataError, PackageError, UnsafeModel, UsageError
from learndock.files import CHUNK, atomic_write, sha256_file, storage_errors, sync_folder
from learndock.package.card import Card
from learndock.package.formats import Format, Progress
from learndock.package.formats.registry import OnBase, Settles, detect
from learndock.package.manifest import CARD, MANIFEST, Base, File, Manifest, SpecFile, check_name
from learndock.package.safety import check_files
from learndock.package.unfinished import unfinished

if TYPE_CHECKING:
    from learndock.spaces import Space

SPECS = "specs"


@dataclass(frozen=True)
class _Order:
    """What the owner asked for."""

    name: str
    schema: Schema
    examples: Examples
    space: Space | str | None
    recipe: str
    description: str
    license: str | None
    base: str | None
    full: bool
    seed: int
    progress: Progress | None


def pack(
    model_dir: str | Path,
    out: str | Path,
    *,
    name: str,
    schema: Schema,
    examples: Examples,
    space: Space | str | None = None,
    recipe: str = "one-pass",
    description: str = "",
    license: str | None = None,  # noqa: A002 - the manifest's word
    base: str | None = None,
    full: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Manifest:
    """Make the learnware folder ``out`` of the model in ``model_dir``; return its manifest.

    The model runs on the inputs of ``examples``, and its predictions, never the labels, become the
    specification. Labels, where there are some, only give the score on the card. ``base`` names the model
    under an adapter where the adapter's own name for it leads nowhere. Packing the same things again changes
    nothing.

    Raises:
        UnsafeModel, ModelError, PackageError: the model's files; nothing was written.
        UsageError: ``out`` is taken by something else.
        DataError: there are no examples.
        StorageFull: the disk is full; nothing was changed.
    """
    model_dir, out = Path(model_dir), Path(out)
    order = _Order(
        check_name(name), schema, examples, space, recipe, description, license, base, full, seed,
        progress,
    )  # fmt: skip
    if not len(examples):
        raise DataError(f"{examples.source}: no examples; a spec is made by running the model on some")
    if (model_dir / MANIFEST).exists():
        raise PackageError(f"{model_dir}: is a learnware already; give the folder of the model itself")
    check_files(model_dir)
    _check_place(model_dir, out)
    with _beside(out) as work:
        manifest = _fill(work, model_dir, order)
        _put(work, out, manifest)
    return manifest


def _check_place(model_dir: Path, out: Path) -> None:
    source, place = model_dir.resolve(), out.resolve()
    if place == source or source in place.parents:
        raise UsageError(f"{out}: lies inside the model's folder {model_dir}; choose another place")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; choose another place for the learnware")
    if not place.parent.is_dir():
        raise UsageError(f"{out}: its parent folder {place.parent} does not exist; make it first")


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A temporary folder on the same disk as ``out``; gone afterwards, whatever happens."""
    with storage_errors(out), unfinished(out.resolve()) as work:
        work.chmod(0o755)
        yield work


def _fill(work: Path, model_dir: Path, order: _Order) -> Manifest:
    """Make the whole learnware in ``work``."""
    for path in check_files(model_dir):
        copy_file(model_dir / path, work / path)
    check_files(work)  # what was copied, not what was there a moment ago
    found = detect(work)
    settings = found.check(work, order.schema)
    base = found.bind(work, order.base) if isinstance(found, OnBase) else None
    if isinstance(found, Settles):
        settings = found.settle(work, order.schema, settings, order.examples.inputs)
    predictions = _predict(found, work, order, settings, base)
    specs = _specify(work, order, predictions)
    _describe(work, order, found.name, base, predictions)
    manifest = Manifest(
        name=order.name,
        format=found.name,
        task=order.schema.to_dict(),
        description=order.description,
        license=order.license,
        base=base,
        settings=settings,
        specs=specs,
        files=tuple(_entry(work, path) for path in check_files(work)),
    )
    with atomic_write(work / MANIFEST) as stream:
        stream.write(manifest.to_bytes())
    return manifest


def copy_file(source: Path, target: Path) -> None:
    """Copy the bytes of a regular file (never a link), durably.

    Raises:
        UnsafeModel: the source is not a regular file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(source, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnsafeModel(f"{source}: a symbolic link; put the file itself there") from None
        raise PackageError(f"{source}: cannot be read ({error.strerror})") from None
    with os.fdopen(handle, "rb") as reader:
        if not stat.S_ISREG(os.fstat(reader.fileno()).st_mode):
            raise UnsafeModel(f"{source}: not a regular file; remove it")
        with atomic_write(target) as writer:
            shutil.copyfileobj(reader, writer, CHUNK)


def _predict(found: Format, work: Path, order: _Order, settings: dict[str, Any], base: Base | None) -> NDArray[Any]:
    """What the model says about the owner's inputs; it must load to be packed."""
    known = {**settings, **({"base": base.model_dump()} if base else {})}
    model = found.load(work, order.schema, known)
    return model.predict(order.examples.inputs, progress=order.progress)


def _specify(work: Path, order: _Order, predictions: NDArray[Any]) -> tuple[SpecFile, ...]:
    from learndock.spec import make_spec, write_spec

    spec = make_spec(
        replace(order.examples, targets=None),  # labels must not leak into a model's spec
        order.schema,
        space=order.space,
        predictions=predictions,
        recipe=order.recipe,
        full=order.full,
        seed=order.seed,
        progress=order.progress,
    )
    name = str(spec.space["name"])
    path = f"{SPECS}/{name}.spec"
    (work / SPECS).mkdir(exist_ok=True)
    write_spec(spec, work / path)
    return (SpecFile(path=path, space=name, space_id=spec.space_id),)


def _describe(work: Path, order: _Order, format_name: str, base: Base | None, predictions: NDArray[Any]) -> None:
    path = work / CARD
    existing = path.read_text("utf-8") if path.exists() else None
    card = Card(
        name=order.name,
        schema=order.schema,
        format=format_name,
        description=order.description,
        license=order.license,
        base=base.name if base else None,
        score=_score(order, predictions),
        examples=len(order.examples),
    )
    with atomic_write(path) as stream:
        stream.write(card.text(existing).encode())


def _score(order: _Order, predictions: NDArray[Any]) -> float | None:
    if order.examples.targets is None:
        return None
    return score(order.schema, predictions, order.examples.targets)


def _entry(work: Path, path: Path) -> File:
    whole = work / path
    return File(path=path.as_posix(), size=whole.stat().st_size, sha256=sha256_file(whole))


def _put(work: Path, out: Path, manifest: Manifest) -> None:
    """Rename ``work`` to ``out``; the same learnware being there already is fine."""
    place = out.resolve()
    for folder, _, _ in os.walk(work):
        sync_folder(folder)
    try:
        work.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _check_same(out, manifest)
        return
    sync_folder(place.parent)


def _check_same(out: Path, manifest: Manifest) -> None:
    from learndock.package.learnware import open_learnware

    try:
        same = open_learnware(out).manifest.digest == manifest.digest
    except (PackageError, OSError):
        same = False
    if not same:
        raise UsageError(f"{out}: exists and is something else; choose another folder, or remove it")
