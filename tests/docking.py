"""Small learnware folders for tests of the dock, and the programs that those tests run and kill.

python docking.py add DOCK FOLDER...          adds each, prints its id when add has returned
python docking.py loop DOCK FROM              makes and adds learnwares until it is killed
python docking.py remove DOCK NAME...
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from learndock.files import sha256_file
from learndock.package.manifest import CARD, MANIFEST, File, Manifest, SpecFile
from learndock.spec import Spec, write_spec
from learndock.spec.spec import identity

#: A file system in memory, or None for the usual place of temporary files.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

SCHEMA = {"type": "classification", "labels": ["bad", "good"]}
SPACE = {"space": "tiny", "helper": {"width": 8}, "sketch": {"size": 24}, "adapters": {"size": 96}}
SPACE_ID = identity(SPACE)


def canonical(values: np.ndarray) -> np.ndarray:
    """Unit root mean square, as recipes make them."""
    return (values / np.sqrt(np.mean(values**2))).astype(np.float32)


def make_spec(draw: np.random.Generator, **changes: Any) -> Spec:
    parts = {name: canonical(draw.normal(size=n)) for name, n in (("domain", 8), ("behaviour", 24))}
    return Spec(**{"kind": "model", "space": SPACE, "schema": SCHEMA, "n": 32, **parts, **changes})


def seal(folder: Path, name: str, *, specs: tuple[SpecFile, ...] | None = None) -> Manifest:
    """Write the manifest of the files that lie in ``folder``."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    manifest = Manifest(
        name=name,
        format="transformers",
        task=SCHEMA,
        license="mit",
        specs=specs or (SpecFile(path="specs/tiny.spec", space="tiny", space_id=SPACE_ID),),
        files=tuple(File(path=str(p.relative_to(folder)), size=p.stat().st_size, sha256=sha256_file(p)) for p in files),
    )
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest


def make_learnware(folder: Path, name: str, *, seed: int = 0, numbers: int = 1_000) -> Path:
    """A learnware of ``numbers`` weights; other seeds give other content, ``config.json`` is the same."""
    draw = np.random.default_rng([seed, int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)])
    folder.mkdir(parents=True)
    labels = dict(enumerate(SCHEMA["labels"]))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "id2label": labels}))
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "WordPiece"}}')
    (folder / CARD).write_text(f"# {name}\n")
    save_file({"weight": draw.normal(size=numbers).astype(np.float32)}, folder / "model.safetensors")
    (folder / "specs").mkdir()
    write_spec(make_spec(draw), folder / "specs" / "tiny.spec")
    seal(folder, name)
    return folder
