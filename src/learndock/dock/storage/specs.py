"""Read the specs of a learnware from its files into the rows of the database.

One way for publishing, verifying and rebuilding, so that all three give the same numbers.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO

from learndock.dock.admission import check_spec
from learndock.dock.storage.blobs import BlobStore, copy_checked
from learndock.dock.storage.records import SpecRow
from learndock.errors import Corrupt, NotFound
from learndock.package.manifest import File, Manifest, SpecFile
from learndock.spec.file import check_shape, spec_from_bytes
from learndock.spec.spec import Spec


def spec_rows(opened: Callable[[File], IO[bytes]], manifest: Manifest) -> list[SpecRow]:
    """Return the specs of a learnware by space; ``opened`` opens each of its files.

    Raises:
        Corrupt: a spec's file is missing or damaged.
        SpecError: a file is not a spec, or not the one that the manifest names.
    """
    files = {f.path: f for f in manifest.files}
    rows = [_spec_row(opened, manifest, entry, files[entry.path]) for entry in manifest.specs]
    return sorted(rows, key=lambda row: row.space_id)


def _spec_row(opened: Callable[[File], IO[bytes]], manifest: Manifest, entry: SpecFile, file: File) -> SpecRow:
    spec = _read(opened, manifest, entry, file)
    return SpecRow(entry.space_id, entry.space, file.sha256, spec.domain, spec.behaviour, spec.reliability)


def stored_spec(blobs: BlobStore, manifest: Manifest, entry: SpecFile, file: File) -> Spec:
    """Return one spec of a learnware, from its blob.

    Raises:
        Corrupt: the blob is missing or damaged.
        SpecError: it is not a spec, or not the one that the manifest names.
    """
    return _read(lambda of: blobs.open(of.sha256), manifest, entry, file)


def _read(opened: Callable[[File], IO[bytes]], manifest: Manifest, entry: SpecFile, file: File) -> Spec:
    where = f"{manifest.name}: {file.path}"
    source = io.BytesIO()
    try:
        with opened(file) as stream:
            copy_checked(stream, source, sha256=file.sha256, size=file.size, where=where)
    except NotFound:
        raise Corrupt(
            f"its blob {file.sha256[:12]} is missing", remedy="`learndock add` the learnware again", about=where
        ) from None
    return checked_spec(source.getvalue(), entry, where=where)


def checked_spec(source: bytes, entry: SpecFile, *, where: str) -> Spec:
    """Return the spec in these bytes, if it is what ``entry`` of a manifest says.

    Raises:
        SpecError: it is not.
    """
    return check_spec(check_shape(spec_from_bytes(source, where=where), where=where), entry, where=where)
