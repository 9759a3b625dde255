"""From the spec blobs of a learnware to the rows that the index is made of.

One way for publishing, verifying and rebuilding, so that all three give the same numbers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from learndock.dock.admission import ReadSpec, admitted_spec
from learndock.dock.blobs import copy_checked
from learndock.dock.home import Home
from learndock.dock.records import Records, SpecRow
from learndock.errors import Corrupt, NotFound, SpecError
from learndock.package.manifest import File, Manifest, SpecFile


def spec_rows(home: Home, manifest: Manifest, *, read: ReadSpec | None) -> list[SpecRow]:
    """The specs of a learnware whose blobs are stored, by space.

    Raises:
        Corrupt: a spec's blob is missing or damaged.
        SpecError: it is no spec, or not the one that the manifest says.
    """
    files = {f.path: f for f in manifest.files}
    rows = [_spec_row(home, manifest, entry, files[entry.path], read) for entry in manifest.specs]
    return sorted(rows, key=lambda row: row.space_id)


def _spec_row(home: Home, manifest: Manifest, entry: SpecFile, file: File, read: ReadSpec | None) -> SpecRow:
    where = f"{manifest.name}: {file.path}"
    try:
        stream = home.blobs.open(file.sha256)
    except NotFound:
        raise Corrupt(f"{where}: its blob {file.sha256[:12]} is missing; add the learnware again") from None
    with stream, tempfile.TemporaryDirectory(dir=home.staging, prefix="spec-") as folder:
        copy = Path(folder) / Path(file.path).name
        with copy.open("wb") as out:
            copy_checked(stream, out, sha256=file.sha256, size=file.size, where=where)
        spec = admitted_spec(copy, entry, where=where, read=read)
    return SpecRow(entry.space_id, entry.space, file.sha256, spec.domain, spec.behaviour)


def check_widths(records: Records, specs: Sequence[SpecRow], *, where: str) -> None:
    """All specs of a space have the same widths.

    Raises:
        SpecError: one of these has not.
    """
    for spec in specs:
        known = records.widths(spec.space_id)
        found = (spec.domain.size, spec.behaviour.size)
        if known is not None and known != found:
            raise SpecError(
                f"{where}: its spec for {spec.space} has {found[0]} and {found[1]} numbers (domain, "
                f"behaviour), the space has {known[0]} and {known[1]}"
            )
