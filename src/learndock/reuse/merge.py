"""Merge adapters of one base into one adapter: the weighted sum of what each adds.

An adapter adds ``s B A`` to a layer, with the scale s that its rank, alpha and settings say. The matrices of all are
put side by side, ``B = [w_1 s_1 B_1, w_2 s_2 B_2, ...]`` over ``A = [A_1; A_2; ...]``, so that nothing is lost and
ranks add up; alpha equals the new rank, so that the result has the scale one. A merge of an adapter with itself is
therefore that adapter again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from learndock.errors import ModelError, UsageError
from learndock.files import storage_errors
from learndock.package.formats.adapters import Update, read_updates, write_updates
from learndock.package.learnware import Learnware
from learndock.package.safety import check_files
from learndock.reuse.generate import require_adapters

#: Files beside an adapter that say how texts become tokens and prompts are written.
_BESIDE = ("prompt.json", "tokenizer.json", "tokenizer_config.json")


def merge_adapters(
    learnwares: Mapping[str, Learnware], out: str | Path, *, weights: Sequence[float] | None = None
) -> Path:
    """Merge adapters of one base and write the result as the folder ``out``, which can be packed.

    The merged adapter adds ``sum_i w_i s_i B_i A_i`` to the base, exactly; ranks add up. The adapters may differ in
    rank, alpha, rsLoRA, and in the layers that they change.

    Args:
        learnwares: two or more adapters of one language model, by any name.
        out: the folder to write; its parent folder must exist.
        weights: w_i, in the order of ``learnwares``; by default all equal with the sum 1.

    Returns:
        ``out``.

    Raises:
        UsageError: ``out`` exists; fewer than two learnwares; weights that are not finite, or not as many.
        ModelError: bases, tokenizers or prompt formats differ, or an adapter adds more than ``B A`` (DoRA, biases).
        StorageFull

    Example:
        >>> opened = {name: learndock.open_learnware(name) for name in ("one", "two")}  # doctest: +SKIP
        >>> learndock.merge_adapters(opened, "merged", weights=[0.7, 0.3])  # doctest: +SKIP
        PosixPath('merged')
    """
    out = Path(out)
    if out.exists():
        raise UsageError("exists", remedy="choose another folder, or remove it", about=out)
    if not out.resolve().parent.is_dir():
        raise UsageError(f"its parent folder {out.resolve().parent} does not exist", remedy="make it first", about=out)
    if len(learnwares) < 2:
        raise UsageError("merging needs at least two adapters")
    given = [1 / len(learnwares)] * len(learnwares) if weights is None else [float(w) for w in weights]
    if len(given) != len(learnwares) or not np.isfinite(given).all() or not any(given):
        raise UsageError(f"{len(learnwares)} adapters need as many finite weights, not all zero; found {given}")
    require_adapters(learnwares)
    for found in learnwares.values():
        check_files(found.folder)
    base = _one_base(learnwares)
    beside = _same_beside(learnwares)
    parts = [read_updates(found.folder) for found in learnwares.values()]
    with (
        storage_errors(out),
        tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=f".{out.name}.", suffix=".part") as work,
    ):
        made = Path(work) / "merged"
        made.mkdir()
        write_updates(made, _sum(parts, given), base=base)
        for file in beside:
            shutil.copyfile(file, made / file.name)
        made.rename(out)
    return out


def _one_base(learnwares: Mapping[str, Learnware]) -> str:
    bases = {name: found.manifest.base for name, found in learnwares.items()}
    first = next(iter(bases.values()))
    for name, base in bases.items():
        if first is None or base is None or base.sha256 != first.sha256:
            raise ModelError(
                f"its base is not that of {next(iter(bases))}",
                remedy="only adapters of one base can be merged",
                about=name,
            )
    assert first is not None
    return first.name


def _same_beside(learnwares: Mapping[str, Learnware]) -> list[Path]:
    """The files of ``_BESIDE`` that the merged adapter takes over.

    Raises:
        ModelError: the adapters do not all have the same.
    """
    held = {
        name: {f: (found.folder / f).read_bytes() for f in _BESIDE if (found.folder / f).is_file()}
        for name, found in learnwares.items()
    }
    first = next(iter(held))
    for name, files in held.items():
        if other := [f for f in _BESIDE if files.get(f) != held[first].get(f)]:
            raise ModelError(
                f"its {other[0]} is not that of {first}, so that they read prompts differently",
                remedy="only adapters with the same can be merged",
                about=name,
            )
    return [learnwares[first].folder / f for f in held[first]]


def _sum(parts: Sequence[Mapping[str, Update]], weights: Sequence[float]) -> dict[str, Update]:
    """The weighted sum, layer by layer."""
    found: dict[str, Update] = {}
    for module in sorted(Counter(name for part in parts for name in part)):
        some = [(w, part[module]) for w, part in zip(weights, parts, strict=True) if w and module in part]
        if some:
            found[module] = Update(
                np.concatenate([u.A for _, u in some], 0),
                np.concatenate([np.float32(w) * u.B for w, u in some], 1),
            )
    return found
