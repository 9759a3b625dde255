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
    out: str | Path,
    *,
    name: str,
    schema: Schema | None = None,
    space: Space | str | None = None,
    recipe: str = "one-pass",
    description: str = "",
    license: str | None = None,  # noqa: A002 - the manifest's word
    seed: int = 0,
    progress: Progress | None = None,
) -> Manifest:
    """Tune a learnware's model on ``examples`` and pack the result as the new learnware ``out``.

    The model gets a new output layer where ``schema`` has other labels than the learnware. The new learnware's
    specification is made on the same examples, from what the tuned model predicts for them.

    Args:
        learnware: what to start from; its format must be one that can be tuned.
        examples: inputs with labels.
        out: folder of the new learnware; its parent folder must exist.
        name: ``owner/name`` of the new learnware.
        schema: the task; by default the one of ``examples``. Its labels may differ from the learnware's.
        space: space of the new specification; by default the built-in one for these inputs.
        recipe: ``"one-pass"`` or ``"paper"``.
        description: a sentence for the card; by default it names the learnware that was tuned.
        license: by default the license of ``learnware``.
        seed: of initialisation and order.
        progress: called with (steps done, steps in all).

    Returns:
        The manifest of the new learnware.

    Raises:
        ModelError: the model cannot be tuned, or not on these examples; the message says what can.
        UsageError: ``out`` exists, or no schema is known.
        DataError: the examples have no labels.
        PackageError: ``name`` is not ``owner/name``, or the format is not installed.
        UnsafeModel, MissingExtra, StorageFull

    Example:
        >>> mine = learndock.finetune(
        ...     learndock.open_learnware("learnware"), learndock.read_examples("few.csv"), "mine", name="me/mine"
        ... )
        >>> mine.name
        'me/mine'
    """
    check_name(name)
    out = Path(out)
    if out.exists():
        raise UsageError("exists", remedy="choose another folder, or remove it", about=out)
    if examples.targets is None or not len(examples):
        raise DataError("tuning needs examples with labels", about=examples.source)
    schema = schema or examples.schema
    if schema is None:
        raise UsageError("no schema is known", remedy="pass one", about=examples.source)
    found = get_format(learnware.manifest.format)
    check_files(learnware.folder)
    if not out.resolve().parent.is_dir():
        raise UsageError(f"its parent folder {out.resolve().parent} does not exist", remedy="make it first", about=out)
    with storage_errors(out), unfinished(out.resolve()) as work:
        tuned = work / "model"
        found.finetune(
            learnware.folder,
            learnware.schema,
            learnware.settings,
            examples,
            schema,
            tuned,
            seed=seed,
            progress=progress,
        )
        base = learnware.manifest.base
        return pack(
            tuned,
            out,
            name=name,
            schema=schema,
            examples=examples,
            space=space,
            recipe=recipe,
            description=description or f"{learnware.manifest.name}, tuned further",
            license=license if license is not None else learnware.manifest.license,
            base=base.name if base else None,
            seed=seed,
            progress=progress,
        ).manifest
