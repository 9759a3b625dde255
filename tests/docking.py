"""Small learnware folders for tests of the dock, and the programs that those tests run and kill.

python docking.py add DOCK FOLDER...          adds each, prints its id when add has returned
python docking.py loop DOCK FROM              makes and adds learnwares until it is killed
python docking.py remove DOCK NAME...
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from learndock.dock import Admitted, Dock, open_dock
from learndock.dock.admission import admitted_spec, check_manifest
from learndock.errors import PackageError, SpecError
from learndock.files import sha256_file
from learndock.package.manifest import CARD, MANIFEST, File, Manifest, SpecFile
from learndock.spec.spec import Spec, identity

SPACE = {"space": "tiny", "sketch": 24}
SPACE_ID = identity(SPACE)


def write_spec(
    path: Path,
    domain: np.ndarray[Any, Any],
    behaviour: np.ndarray[Any, Any],
    *,
    kind: str = "model",
    space: dict[str, Any] = SPACE,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"learndock": json.dumps({"kind": kind, "space": space})}
    save_file({"domain": domain, "behaviour": behaviour}, path, metadata=metadata)


def read_spec(path: Path) -> Spec:
    source = path.read_bytes()
    length = int.from_bytes(source[:8], "little")
    try:
        note = json.loads(json.loads(source[8 : 8 + length])["__metadata__"]["learndock"])
        parts = load_file(path)
    except Exception as error:
        raise SpecError(f"{path}: no spec ({error})") from None
    return Spec(note["kind"], note["space"], {}, 32, parts["domain"], parts["behaviour"])


def admit(folder: Path) -> Admitted:
    """The door without its guards of package and safety, which have tests of their own."""
    manifest = Manifest.from_folder(folder)
    for file in manifest.files:
        if sha256_file(folder / file.path) != file.sha256:
            raise PackageError(f"{folder / file.path}: not the file of the manifest")
    check_manifest(manifest, where=str(folder))
    for entry in manifest.specs:
        admitted_spec(folder / entry.path, entry, where=str(folder / entry.path), read=read_spec)
    return Admitted(folder, manifest)


def tiny_dock(path: Path, **options: Any) -> Dock:
    return open_dock(path, admit=admit, read_spec=read_spec, **options)


def seal(folder: Path, name: str, *, specs: tuple[SpecFile, ...] | None = None) -> Manifest:
    """Write the manifest of the files that lie in ``folder``."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    manifest = Manifest(
        name=name,
        format="transformers",
        task={"type": "classification", "labels": ["bad", "good"]},
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
    (folder / "config.json").write_text('{"model_type": "bert"}\n')
    (folder / CARD).write_text(f"# {name}\n")
    save_file({"weight": draw.normal(size=numbers).astype(np.float32)}, folder / "model.safetensors")
    write_spec(
        folder / "specs" / "tiny.spec",
        draw.normal(size=8).astype(np.float32),
        draw.normal(size=24).astype(np.float32),
    )
    seal(folder, name)
    return folder
