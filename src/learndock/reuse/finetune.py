"""Give a learnware the user's own task: tune its model on a few examples, and pack it as a new learnware."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import DataError, UsageError
from learndock.files import storage_errors
from learndock.package.formats import Progress
from learndock.package.formats.registry import get_format
from learndock.package.learnware import Learnware
from learndock.package.manifest import Manifest, check_name
from learndock.package.packing import pack
from learndock.package.safety import check_files
from learndock.package.unfinished import unfinished

if TYPE_CHECKING:
    from learndock.spaces import Space


def finetune(
    learnware: Learnware,
    examples: Examples,
    target_schema: Schema,
    out: str | Path,
    *,
    name: str,
    space: Space | str | None = None,
    recipe: str = "one-pass",
    description: str = "",
    license: str | None = None,  # noqa: A002 - the manifest's word
    seed: int = 0,
    progress: Progress | None = None,
) -> Manifest:
    """Tune the learnware's model on ``examples`` and pack it as ``out``; return the new manifest.

    ``target_schema`` may have other labels than the learnware: the model then gets a new output layer. The
    new learnware's spec is made on the same examples, from what the tuned model predicts for them.

    Raises:
        ModelError: the model cannot be tuned, or not with these examples; the message says what can.
        UsageError: ``out`` exists.
        DataError: the examples have no labels.
        UnsafeModel, MissingExtra, StorageFull
    """
    check_name(name)
    out = Path(out)
    if out.exists():
        raise UsageError(f"{out}: exists; choose another folder, or remove it")
    if examples.targets is None or not len(examples):
        raise DataError(f"{examples.source}: tuning needs examples with labels")
    found = get_format(learnware.manifest.format)
    check_files(learnware.folder)
    if not out.resolve().parent.is_dir():
        raise UsageError(f"{out}: its parent folder {out.resolve().parent} does not exist; make it first")
    with storage_errors(out), unfinished(out.resolve()) as work:
        tuned = work / "model"
        found.finetune(
            learnware.folder,
            learnware.schema,
            learnware.settings,
            examples,
            target_schema,
            tuned,
            seed=seed,
            progress=progress,
        )
        base = learnware.manifest.base
        return pack(
            tuned,
            out,
            name=name,
            schema=target_schema,
            examples=examples,
            space=space,
            recipe=recipe,
            description=description or f"{learnware.manifest.name}, tuned further",
            license=license if license is not None else learnware.manifest.license,
            base=base.name if base else None,
            seed=seed,
            progress=progress,
        ).manifest
