"""Make a learnware of a trained model: check, copy, run, specify, describe, and the manifest last.

This is the owner's step. Everything happens in a temporary folder beside the destination, which is renamed into place
at the end, so a learnware is there completely or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import DataError, PackageError, UnsafeModel, UsageError
from learndock.files import CHUNK, atomic_write, sha256_file, storage_errors, sync_folder
from learndock.package.card import Card
from learndock.package.columns import Columns, both_names, names_beside, settle_columns
from learndock.package.formats import Format, Progress, remarks_of
from learndock.package.formats._onnx_graph import KINDS
from learndock.package.formats.registry import Named, OnBase, Settles, detect
from learndock.package.front_matter import decode_card, edited
from learndock.package.judge import check_expected, judge
from learndock.package.manifest import CARD, MANIFEST, Base, File, Manifest, SpecFile, check_name
from learndock.package.safety import check_files
from learndock.package.unfinished import unfinished

if TYPE_CHECKING:
    from learndock.spaces import Space
    from learndock.spec.spec import Spec

SPECS = "specs"


@dataclass(frozen=True)
class Packed:
    """A learnware that was just made.

    ``columns`` says which column of the model is which label; None where the task has no labels, or where the format
    answers in labels itself. ``score`` is the model's on the owner's own labels, in the schema's metric; None without
    labels. ``remarks`` are what the owner should read before sharing it.
    """

    folder: Path
    manifest: Manifest
    spec: Spec
    columns: Columns | None = None
    score: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """``owner/name@sha256``."""
        return self.manifest.id


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
    mapping: Mapping[str, str]
    in_order: bool
    scores: str | None
    expected: Sequence[Any] | None
    full: bool
    seed: int
    progress: Progress | None


def pack(
    model_dir: str | Path,
    out: str | Path,
    *,
    name: str,
    examples: Examples,
    schema: Schema | None = None,
    space: Space | str | None = None,
    recipe: str = "one-pass",
    description: str = "",
    license: str | None = None,  # noqa: A002 - the manifest's word
    base: str | None = None,
    mapping: Mapping[str, str] | None = None,
    in_order: bool = False,
    scores: str | None = None,
    expected: Sequence[Any] | None = None,
    ignore: Sequence[str] = (),
    full: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Packed:
    """Make the learnware folder ``out`` from the model in ``model_dir``.

    The model runs on the inputs of ``examples``, and its predictions, never the labels, become the specification.
    Labels, where the examples have them, only give the score. Packing the same things again changes nothing.

    Args:
        model_dir: the folder of the trained model.
        out: the learnware to make; its parent folder must exist.
        name: ``owner/name``.
        examples: inputs to run the model on, at least a few dozen.
        schema: the task; by default the one of ``examples``.
        space: the space of the specification; by default the built-in one for these inputs.
        recipe: ``one-pass`` or ``paper``.
        description, license: for the card.
        base: the model under an adapter, where the adapter's own name for it leads nowhere.
        mapping: the schema's label for a column of the model, by the column's name or number (see ``columns``).
        in_order: the schema's labels are in the order of the model's columns, where its files do not name them.
        scores: what an ONNX graph puts out, where the graph does not show it: ``logits``, ``probabilities``,
            ``sigmoids`` or ``log-probabilities``.
        expected: what the owner's own program answers for the same inputs: per input a label, a value, or the
            probabilities of all labels. A model that answers otherwise here is refused.
        ignore: patterns of files in ``model_dir`` to leave out, such as ``optimizer.pt`` or ``checkpoint-*``.
        full: also keep the unsketched parameter vector.
        seed: of the specification.
        progress: called with (done, total).

    Raises:
        UnsafeModel, ModelError, PackageError: the model's files; nothing was written.
        UsageError: ``out`` is taken by something else, or ``mapping`` does not fit.
        DataError: there are no examples.
        StorageFull: the disk is full; nothing was changed.

    Example:
        >>> packed = learndock.pack(
        ...     "model", "packed", name="me/reviews", examples=learndock.read_examples("few.csv"), license="Apache-2.0"
        ... )
        >>> packed.score
        1.0
        >>> packed.manifest.license
        'Apache-2.0'
    """
    model_dir, out = Path(model_dir), Path(out)
    schema = schema or examples.schema
    if schema is None:
        raise DataError(
            "without labels a schema is needed", remedy="give one that names the model's labels", about=examples.source
        )
    order = _Order(
        check_name(name), schema, examples, space, recipe, description, license, base, mapping or {}, in_order,
        scores, expected, full, seed, progress,
    )  # fmt: skip
    if not len(examples):
        raise DataError("no examples", remedy="a spec is made by running the model on some", about=examples.source)
    if (model_dir / MANIFEST).exists():
        raise PackageError("is a learnware already", remedy="give the folder of the model itself", about=model_dir)
    files = check_files(model_dir, ignore=ignore)
    _check_place(model_dir, out)
    with _beside(out) as work:
        packed = _fill(work, model_dir, files, order)
        _put(work, out, packed.manifest)
    return replace(packed, folder=out)


def _check_place(model_dir: Path, out: Path) -> None:
    source, place = model_dir.resolve(), out.resolve()
    if place == source or source in place.parents:
        raise UsageError(f"is inside the model's folder {model_dir}", remedy="choose another place", about=out)
    if out.exists() and not out.is_dir():
        raise UsageError("is a file", remedy="choose another place for the learnware", about=out)
    if not place.parent.is_dir():
        raise UsageError(f"its parent folder {place.parent} does not exist", remedy="make it first", about=out)


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A temporary folder on the same disk as ``out``; gone afterwards, whatever happens."""
    with storage_errors(out), unfinished(out.resolve()) as work:
        work.chmod(0o755)
        yield work


def _fill(work: Path, model_dir: Path, files: list[Path], order: _Order) -> Packed:
    """Make the learnware in ``work`` of the checked ``files`` of ``model_dir``."""
    for path in files:
        copy_file(model_dir / path, work / path)
    check_files(work)  # what was copied, not what was there a moment ago
    found = detect(work)
    base, settings, columns = _settle(found, work, order)
    model = found.load(work, order.schema, settings)
    predictions = model.predict(order.examples.inputs, progress=order.progress)
    if order.expected is not None:
        check_expected(order.schema, predictions, order.expected)
    judged = judge(order.schema, predictions, order.examples.targets, columns)
    entry, spec = _specify(work, order, predictions)
    _describe(work, order, found.name, base, judged.score)
    manifest = Manifest(
        name=order.name,
        format=found.name,
        task=order.schema.to_dict(),
        description=order.description,
        license=order.license,
        base=base,
        settings={k: v for k, v in settings.items() if k != "base"},
        specs=(entry,),
        files=tuple(_entry(work, path) for path in sorted({*files, Path(entry.path)} - {Path(CARD)})),
    )
    with atomic_write(work / MANIFEST) as stream:
        stream.write(manifest.to_bytes())
    return Packed(work, manifest, spec, columns, judged.score, (*remarks_of(model), *judged.remarks))


def _settle(found: Format, work: Path, order: _Order) -> tuple[Base | None, dict[str, Any], Columns | None]:
    """What the manifest must say so that the model answers elsewhere as it does here: its base, settings, columns."""
    settings = found.check(work, order.schema)
    if order.base is not None and not isinstance(found, OnBase):
        raise UsageError(
            "--base names the model under an adapter", remedy=f"leave it out: this model's format is {found.name}"
        )
    base = found.bind(work, order.base) if isinstance(found, OnBase) else None
    if base is not None:
        settings = {**settings, "base": base.model_dump()}
    if order.scores is not None:
        if found.name != "onnx" or order.schema.type != "classification" or order.scores not in KINDS:
            raise UsageError(
                f"--scores {order.scores}: not for {order.schema.type} by a model of the format {found.name}",
                remedy=f"it is for classifiers as ONNX graphs, one of {', '.join(KINDS)}",
            )
        settings = {**settings, "scores": order.scores}
    if isinstance(found, Settles):
        settings = found.settle(work, order.schema, settings, order.examples.inputs)
    columns = None
    if isinstance(found, Named) and order.schema.type == "classification":
        names = both_names(names_beside(work) or found.label_names(work, order.schema, settings), order.schema)
        columns = settle_columns(names, order.schema, mapping=order.mapping, in_order=order.in_order, where=found.name)
        settings = {**settings, "columns": list(columns.order)}
    elif order.mapping or order.in_order:
        raise UsageError(
            "--map and --in-order are for classifiers with columns", remedy=f"this model's format is {found.name}"
        )
    return base, settings, columns


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
            raise UnsafeModel("a symbolic link", remedy="put the file itself there", about=source) from None
        raise PackageError(f"cannot be read ({error.strerror})", about=source) from None
    with os.fdopen(handle, "rb") as reader:
        if not stat.S_ISREG(os.fstat(reader.fileno()).st_mode):
            raise UnsafeModel("not a regular file", remedy="remove it", about=source)
        with atomic_write(target) as writer:
            shutil.copyfileobj(reader, writer, CHUNK)


def _specify(work: Path, order: _Order, predictions: NDArray[Any]) -> tuple[SpecFile, Spec]:
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
    return SpecFile(path=path, space=name, space_id=spec.space_id), spec


def _describe(work: Path, order: _Order, format_name: str, base: Base | None, score: float | None) -> None:
    path = work / CARD
    existing = decode_card(path.read_bytes()) if path.exists() else None
    card = Card(
        name=order.name,
        schema=order.schema,
        format=format_name,
        description=order.description,
        base=base.name if base else None,
        score=score,
        examples=len(order.examples),
    )
    text = edited(card.text(existing), license=order.license, description=order.description or None)
    with atomic_write(path) as stream:
        stream.write(text.encode())


def _entry(work: Path, path: Path) -> File:
    file = work / path
    return File(path=path.as_posix(), size=file.stat().st_size, sha256=sha256_file(file))


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
        raise UsageError("exists and is something else", remedy="choose another folder, or remove it", about=out)
