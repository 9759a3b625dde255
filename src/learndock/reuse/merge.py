"""Merge adapters that stand on one base into one adapter: the weighted sum of what each adds."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from learndock.errors import UsageError
from learndock.files import storage_errors
from learndock.package.learnware import Learnware
from learndock.reuse.run import load_writers

MERGED = "merged"


def merge_adapters(
    learnwares: Mapping[str, Learnware], out: str | Path, *, weights: Sequence[float] | None = None
) -> Path:
    """Write the adapter that adds ``sum_i w_i B_i A_i`` to the base as the folder ``out``; it can be packed.

    Through PEFT's ``add_weighted_adapter`` by concatenation: nothing is lost, and ranks add up. ``weights`` are as
    many as learnwares; default: each the same, summing to one.

    Raises:
        UsageError: ``out`` exists, fewer than two learnwares, weights that are not finite or not as many.
        ModelError: bases differ, or an adapter does not fit.
        MissingExtra, StorageFull
    """
    out = Path(out)
    if out.exists():
        raise UsageError(f"{out}: exists; choose another folder, or remove it")
    if not out.resolve().parent.is_dir():
        raise UsageError(f"{out}: its parent folder {out.resolve().parent} does not exist; make it first")
    if len(learnwares) < 2:
        raise UsageError("merging needs at least two adapters")
    given = [1 / len(learnwares)] * len(learnwares) if weights is None else [float(w) for w in weights]
    if len(given) != len(learnwares) or not np.isfinite(given).all() or not any(given):
        raise UsageError(f"{len(learnwares)} adapters need as many finite weights, not all zero; found {given}")
    models = list(load_writers(learnwares).values())
    network = models[0].network
    network.add_weighted_adapter([str(m.adapter) for m in models], given, MERGED, combination_type="cat")
    base = next(iter(learnwares.values())).manifest.base
    assert base is not None
    with (
        storage_errors(out),
        tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=f".{out.name}.", suffix=".part") as work,
    ):
        network.save_pretrained(work, selected_adapters=[MERGED], safe_serialization=True, save_embedding_layers=False)
        made = Path(work) / MERGED
        (made / "README.md").unlink(missing_ok=True)  # written by the library, names paths of this machine
        _name_base(made / "adapter_config.json", base.name)
        for file in ("prompt.json",):
            first = next(iter(learnwares.values())).folder / file
            if first.is_file():
                shutil.copyfile(first, made / file)
        made.rename(out)
    return out


def _name_base(path: Path, name: str) -> None:
    config = json.loads(path.read_text("utf-8"))
    config["base_model_name_or_path"] = name
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
