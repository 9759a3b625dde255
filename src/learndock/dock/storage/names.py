"""What an owner does with the versions of a name: remove, tag, untag (publishing is in ``publish``)."""

from __future__ import annotations

import re

from learndock.dock.storage import lookup
from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.publications import Publication
from learndock.dock.storage.records import Records, Row, disagreement
from learndock.dock.storage.writing import agreed, change, writing
from learndock.errors import NotFound, UsageError

LATEST = "latest"
_TAG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
#: What a reference means already: numbers and digests of versions, and the hub's names of branches.
_TAKEN = re.compile(r"v[0-9]+|[0-9a-f]{6,64}|main|head")


def check_tag(tag: str) -> str:
    """Return ``tag`` if a version may be tagged so.

    Raises:
        UsageError: it may not.
    """
    if not _TAG.fullmatch(tag):
        raise UsageError(
            f"{tag[:80]!r} is not a tag", remedy='use at most 64 of a-z, 0-9, ".", "_" and "-", a letter or digit first'
        )
    if _TAKEN.fullmatch(tag):
        raise UsageError(
            f"the tag {tag!r} would mean something else",
            remedy="v1, main, head and six or more digits of a digest are taken; choose another word",
        )
    return tag


def remove(storage: DockLayout, which: str) -> tuple[Row, list[Row]]:
    """Remove a name or, with ``@``, one version; return what was removed (``latest``), and what remains.

    The number is never given again. The blobs stay until ``gc``.

    Raises:
        NotFound: there is no such learnware.
        StorageFull: no room for the new file; nothing was changed.
    """
    with writing(storage) as records:
        row = lookup.find(records, which)
        before = _state(storage, records, row.name)
        after = before.without(row.number if "@" in which else None)
        change(storage, records, before, after)
        return row, records.versions(row.name)


def tag(storage: DockLayout, which: str, name: str) -> Row:
    """Tag the version ``which``, and return it; a tag that another version has moves, also ``latest``.

    Raises:
        UsageError: ``name`` is not a tag.
        NotFound: there is no such version.
        StorageFull: no room; nothing was changed.
    """
    if name != LATEST:
        check_tag(name)
    with writing(storage) as records:
        row = lookup.find(records, which)
        before = _state(storage, records, row.name)
        after = before.tagged(name, row.number)
        if after != before:
            change(storage, records, before, after)
        return _row(records, row)


def untag(storage: DockLayout, which: str, name: str) -> Row:
    """Remove a tag of the learnware ``which``, and return the version that had it.

    Raises:
        UsageError: the tag is ``latest``, which can only be moved.
        NotFound: there is no such learnware or tag.
        StorageFull: no room; nothing was changed.
    """
    if name == LATEST:
        raise UsageError("latest cannot be removed", remedy="move it: tag another version as latest")
    with writing(storage) as records:
        row = lookup.find(records, which)
        before = _state(storage, records, row.name)
        number = before.tags.get(name)
        if number is None:
            raise NotFound(f"has no tag {name!r}", remedy="`learndock show` lists its tags", about=row.name)
        change(storage, records, before, before.untagged(name))
        found = records.row(row.name, number)
        assert found is not None
        return found


def _state(storage: DockLayout, records: Records, name: str) -> Publication:
    found = agreed(storage, records, name)
    if found is None:
        raise disagreement(name)
    return found


def _row(records: Records, row: Row) -> Row:
    found = records.row(row.name, row.number)
    assert found is not None
    return found
