"""Small learnware folders for tests of the dock, and the programs that those tests run and kill.

python docking.py add DOCK FOLDER...          adds each, prints its id when add has returned
python docking.py loop DOCK FROM              makes and adds learnwares until it is killed
python docking.py remove DOCK NAME...
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from learndock.dock import LocalDock, open_dock
from learndock.dock.storage.migrations import STEPS
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
    scaled: np.ndarray = values / np.sqrt(np.mean(values**2))
    return scaled.astype(np.float32)


def make_spec(draw: np.random.Generator, **changes: Any) -> Spec:
    parts = {name: canonical(draw.normal(size=n)) for name, n in (("domain", 8), ("behaviour", 24))}
    return Spec(**{"kind": "model", "space": SPACE, "schema": SCHEMA, "n": 32, **parts, **changes})


def seal(
    folder: Path,
    name: str,
    *,
    specs: tuple[SpecFile, ...] | None = None,
    schema: dict[str, Any] = SCHEMA,
    listed: bool = True,
) -> Manifest:
    """Write the manifest of the files that lie in ``folder``; the card is ``listed`` as learndock 0.1.0 did."""
    left_out = {MANIFEST} if listed else {MANIFEST, CARD}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in left_out)
    manifest = Manifest(
        name=name,
        format="transformers",
        task=schema,
        license="mit",
        specs=specs or (SpecFile(path="specs/tiny.spec", space="tiny", space_id=SPACE_ID),),
        files=tuple(File(path=str(p.relative_to(folder)), size=p.stat().st_size, sha256=sha256_file(p)) for p in files),
    )
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest


def make_learnware(
    folder: Path,
    name: str,
    *,
    seed: int = 0,
    numbers: int = 1_000,
    schema: dict[str, Any] = SCHEMA,
    listed: bool = True,
) -> Path:
    """A learnware of ``numbers`` weights; other seeds give other content, ``config.json`` is the same."""
    draw = np.random.default_rng([seed, int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)])
    folder.mkdir(parents=True)
    labels = dict(enumerate(schema["labels"]))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "id2label": labels}))
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "WordPiece"}}')
    (folder / CARD).write_text(f"# {name}\n")
    save_file({"weight": draw.normal(size=numbers).astype(np.float32)}, folder / "model.safetensors")
    (folder / "specs").mkdir()
    write_spec(make_spec(draw, schema=schema), folder / "specs" / "tiny.spec")
    seal(folder, name, schema=schema, listed=listed)
    return folder


# -- a dock seen from below, wherever it keeps its things (see ``test_dock_server``) ------------------------


def server_storage(dock: LocalDock) -> Any:
    """The storage of a server-backed dock; None for a dock in a folder."""
    return dock.storage if hasattr(dock.storage, "engine") else None


def reopened(dock: LocalDock) -> LocalDock:
    """The same dock, opened again."""
    storage = server_storage(dock)
    if storage is None:
        return open_dock(dock.folder)
    from learndock.dock.open import open_server_dock

    return open_server_dock(storage.folder, storage.engine.url, storage.store)


def stored(dock: LocalDock, below: str = "") -> dict[str, bytes]:
    """Everything that is kept, but the database of a server-backed dock."""
    found = {str(p.relative_to(dock.folder)): p.read_bytes() for p in dock.folder.rglob("*") if p.is_file()}
    storage = server_storage(dock)
    if storage is not None:
        import obstore

        for chunk in obstore.list(storage.store):
            found |= {e["path"]: bytes(obstore.get(storage.store, e["path"]).bytes()) for e in chunk}
    return {path: content for path, content in found.items() if path.startswith(below)}


def put_behind_its_back(dock: LocalDock, path: str, content: bytes | None) -> None:
    """Write, or (None) lose, what the dock keeps under ``path``."""
    storage = server_storage(dock)
    if storage is None:
        file = dock.folder / path
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        return
    import obstore

    if content is None:
        obstore.delete(storage.store, path)
    else:
        obstore.put(storage.store, path, content)


def blob_path(sha256: str) -> str:
    return f"blobs/{sha256[:2]}/{sha256}"


def run_sql(dock: LocalDock, statement: str) -> int:
    """Change the dock's database; returns how many rows were."""
    storage = server_storage(dock)
    if storage is None:
        import sqlite3

        with sqlite3.connect(dock.folder / "records.sqlite") as database:
            database.execute("PRAGMA foreign_keys = ON")
            changed = database.execute(statement).rowcount
        database.close()
        return changed
    statement = statement.replace("x'7b7d'", r"'\x7b7d'").replace("zeroblob(32)", "decode(repeat('00', 32), 'hex')")
    with storage.engine.begin() as connection:
        return int(connection.exec_driver_sql(statement).rowcount)


def age(folder: Path, *, steps: int = 2) -> None:
    """Make the dock in ``folder`` what learndock 0.1.0 would have made of it, each name with one version.

    Its database had taken two ``steps``; before the release there was one.
    """
    import sqlite3

    old = folder / "records-aged.sqlite"
    with contextlib.closing(sqlite3.connect(old, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        for step in STEPS[:steps]:
            database.executescript(step)
        database.execute(f"PRAGMA user_version = {steps}")
        database.execute("ATTACH ? AS new", (str(folder / "records.sqlite"),))
        for (name,) in database.execute("SELECT name FROM new.names").fetchall():
            _age_file(folder / "learnwares" / f"{name}.json")
        database.executescript(
            "INSERT INTO main.learnwares SELECT name, digest, state, sequence, manifest, 'transformers', "
            "'classification', 'mit' FROM new.versions WHERE state = 'published';"
            "INSERT INTO main.tombstones SELECT name, digest, sequence FROM new.versions WHERE state = 'removed';"
            "INSERT INTO main.specs "
            "SELECT name, space_id, space, sha256, domain, behaviour, reliability FROM new.specs;"
        )
    link = folder / "aged"
    link.symlink_to(old.name)
    link.replace(folder / "records.sqlite")
    (folder / "dock.json").write_bytes(b'{"format": 1}\n')


def _age_file(path: Path) -> None:
    found = json.loads(path.read_bytes())
    (version,) = found["versions"]
    kept = {key: version[key] for key in ("state", "sequence", "digest", "manifest") if key in version}
    source = {"name": found["name"], **kept}
    path.write_text(json.dumps(source, sort_keys=True, indent=1, ensure_ascii=False) + "\n")
