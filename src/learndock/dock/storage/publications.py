"""The truth on disk: one small file for each name that was ever published.

    learnwares/OWNER/NAME.json   {"name": ..., "state": "published", "sequence": 7, "digest": ...,
                                  "manifest": {...}}
                                 {"name": ..., "state": "removed", "sequence": 7, "digest": ...}

Replacing this file atomically is what publishes or removes a learnware. The database follows, and can be rebuilt from
these files and the blobs. The file has the manifest as JSON whose canonical bytes hash to the digest, whichever version
of learndock wrote it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learndock.errors import Corrupt, PackageError
from learndock.files import atomic_write, sha256_bytes, storage_errors, sync_folder
from learndock.package.manifest import Manifest, check_name


@dataclass(frozen=True)
class Publication:
    """The state of one name on disk; ``manifest`` is its bytes, or None where the learnware was removed."""

    name: str
    sequence: int
    digest: str
    manifest: bytes | None

    @property
    def published(self) -> bool:
        """Whether the learnware is published."""
        return self.manifest is not None

    def removed(self) -> Publication:
        """Return the tombstone of this learnware."""
        return Publication(self.name, self.sequence, self.digest, None)

    def to_bytes(self) -> bytes:
        """Return the bytes of its file."""
        source: dict[str, Any] = {
            "state": "published" if self.published else "removed",
            "name": self.name,
            "sequence": self.sequence,
            "digest": self.digest,
        }
        if self.manifest is not None:
            source["manifest"] = json.loads(self.manifest)
        return _canonical(source)


def _canonical(source: Any) -> bytes:
    return (json.dumps(source, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


class Publications:
    """The files of all names, below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def file(self, name: str) -> Path:
        """Return the path of the file of ``name``, which may not exist."""
        owner, _, own = check_name(name).partition("/")
        return self._root / owner / f"{own}.json"

    def read(self, name: str) -> Publication | None:
        """Return the state of ``name``; None where it was never published.

        Raises:
            Corrupt: the file is not one that the dock wrote.
        """
        source = self._read_bytes(name)
        return None if source is None else _parse(source, name, self.file(name))

    def _read_bytes(self, name: str) -> bytes | None:
        try:
            return self.file(name).read_bytes()
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def replaced(self, publication: Publication) -> Iterator[None]:
        """Publish or remove: replace the name's file durably before the block, or raise and change nothing.

        If the block fails, the previous file is put back. That needs no room on the disk: it was kept under another
        name.

        Raises:
            StorageFull: no room.
        """
        file = self.file(publication.name)
        kept = file.with_name(f".{file.name}.before.part")
        with storage_errors(file):
            if not file.parent.is_dir():
                file.parent.mkdir(exist_ok=True)
                sync_folder(self._root)
            kept.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                kept.hardlink_to(file)
            try:
                with atomic_write(file) as out:
                    out.write(publication.to_bytes())
                yield
            except BaseException:
                if kept.exists():
                    kept.replace(file)
                    kept.unlink(missing_ok=True)  # two names of one file are left alone by a rename
                else:
                    file.unlink(missing_ok=True)
                sync_folder(file.parent)
                raise
        with contextlib.suppress(OSError):  # it is done; ``gc`` deletes what is left
            kept.unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """Yield all names that have a file, sorted.

        Raises:
            Corrupt: a file has a name that no learnware can have.
        """
        for file in sorted(self._root.glob("*/*.json")):
            name = f"{file.parent.name}/{file.stem}"
            try:
                yield check_name(name)
            except PackageError as error:
                raise damaged(file, error.what) from None

    def empty(self) -> bool:
        """Return whether nothing was ever published."""
        return next(self._root.glob("*/*.json"), None) is None

    def manifest(self, publication: Publication) -> Manifest:
        """Return the manifest of a published learnware.

        Raises:
            Corrupt: it is not a manifest, or that of another learnware.
        """
        file = self.file(publication.name)
        if publication.manifest is None:
            raise damaged(file, "the learnware was removed")
        try:
            manifest = Manifest.from_bytes(publication.manifest, where=str(file))
        except PackageError as error:
            raise damaged(file, error.what) from None
        if manifest.name != publication.name:
            raise damaged(file, f"its manifest is that of {manifest.name}")
        return manifest

    def leftovers(self) -> Iterator[Path]:
        """Return the unfinished files of writers that were killed."""
        return self._root.glob("*/.*.part")


def _parse(source: bytes, name: str, file: Path) -> Publication:
    try:
        record = json.loads(source.decode("utf-8"))
        state, sequence, digest = record["state"], record["sequence"], record["digest"]
        manifest = _canonical(record["manifest"]) if state == "published" else None
    except (UnicodeError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(file, f"it cannot be read ({error})") from None
    if state not in ("published", "removed") or type(sequence) is not int or record.get("name") != name:
        raise damaged(file, "its fields contradict each other")
    if manifest is not None and sha256_bytes(manifest) != digest:
        raise damaged(file, "its manifest does not hash to its digest")
    return Publication(name, sequence, str(digest), manifest)


def damaged(file: Path, why: str) -> Corrupt:
    """Return the error of a record that learndock did not write like this."""
    return Corrupt(
        f"is damaged: {why}",
        remedy="restore the file from a backup; or move it away, run `learndock rebuild` and add the learnware again",
        about=file,
    )
