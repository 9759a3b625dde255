"""What an owner does with a name: remove, tag, edit its card, deprecate, move (publishing is in ``publish``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from learndock.dock.storage import lookup
from learndock.dock.storage.export import card_of
from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.publications import Event, Publication
from learndock.dock.storage.publish import put_card, with_card
from learndock.dock.storage.records import Records, Row, disagreement
from learndock.dock.storage.writing import agreed, change, now, writing
from learndock.errors import Conflict, Corrupt, NotFound, UsageError
from learndock.files import sha256_bytes
from learndock.package.deprecation import Deprecation
from learndock.package.front_matter import MAX_CARD_BYTES, MAX_DESCRIPTION, decode_card, edited
from learndock.package.manifest import check_name

LATEST = "latest"
#: Tags of one name, beside ``latest`` and the numbers: every list reads them.
MOST_TAGS = 200
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
        if name != LATEST and name not in before.tags and len(before.tags) >= MOST_TAGS:
            raise UsageError(f"has {MOST_TAGS} tags already", remedy="`learndock untag` removes one", about=row.name)
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


@dataclass(frozen=True)
class Edit:
    """What to change of a card: all of it, its license or description ("" removes them), tags to add and remove."""

    card: str | None = None
    license: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    untag: tuple[str, ...] = ()

    def applied(self, text: str) -> str:
        """Return the changed card.

        Raises:
            PackageError: its front matter cannot be read, or not be changed without losing something else in it.
        """
        text = text if self.card is None else self.card
        return edited(text, license=self.license, description=self.description, tags=self.tags, untag=self.untag)

    def events(self, time: str, by: str, sha256: str) -> list[Event]:
        """Return what the history of the name says of it; the card's hash comes last."""
        said = [("license", self.license), ("description", self.description)]
        said += [("tag", tag) for tag in self.tags] + [("untag", tag) for tag in self.untag]
        found = [Event(time, by, what, value) for what, value in said if value is not None]
        return [*found, Event(time, by, "card", sha256)]


def edit(storage: DockLayout, which: str, change_of: Edit, *, by: str = "") -> Row:
    """Edit the card of a learnware, and return its row; an edit that changes nothing leaves no trace.

    Raises:
        NotFound: there is no such learnware.
        PackageError: the card is too large, not UTF-8, or its front matter cannot be read or changed.
        StorageFull: no room; nothing was changed.
    """
    while True:
        # Other writers do not wait while the header is read and changed, which may take a second.
        with storage.read() as records:
            seen = card_text(storage, records, lookup.find(records, which).name)
        source = change_of.applied(seen).encode("utf-8", "surrogatepass")
        new_blobs: list[str] = []
        with writing(storage) as records:
            row = lookup.find(records, which)
            before = _state(storage, records, row.name)
            if card_text(storage, records, row.name) != seen:
                continue
            if source != _card_bytes(storage, records, row.name):
                after = with_card(before, source, *change_of.events(now(), by, sha256_bytes(source)))
                put_card(storage, source, new_blobs)
                change(storage, records, before, after, new_blobs=new_blobs)
            return _row(records, row)


def card_text(storage: DockLayout, records: Records, name: str) -> str:
    """Return the present card of a learnware, or "" where it has none.

    Raises:
        PackageError: it is not UTF-8.
        Corrupt: its bytes are missing.
    """
    source = _card_bytes(storage, records, name)
    return "" if source is None else decode_card(source)


def _card_bytes(storage: DockLayout, records: Records, name: str) -> bytes | None:
    row = records.row(name)
    found = None if row is None else card_of(row)
    if found is None:
        return None
    try:
        with storage.blobs.open(found.sha256) as stream:
            return stream.read(MAX_CARD_BYTES + 1)
    except NotFound:
        raise Corrupt(
            "the bytes of its card are missing", remedy="give it another with `learndock edit --card`", about=name
        ) from None


def deprecate(
    storage: DockLayout, which: str, *, use: str | None = None, because: str = "", undo: bool = False, by: str = ""
) -> Row:
    """Say that a learnware should not be used any more, or no longer say so; return its row.

    Raises:
        NotFound: there is no such learnware, or none called ``use``.
        UsageError: it would point to itself, or the reason is longer than ``MAX_DESCRIPTION`` characters.
        StorageFull: no room; nothing was changed.
    """
    because = " ".join(because.split())
    if len(because) > MAX_DESCRIPTION or not because.isprintable():
        raise UsageError(f"the reason has line breaks, or more than {MAX_DESCRIPTION} characters", remedy="shorten it")
    with writing(storage) as records:
        row = lookup.find(records, which)
        before = _state(storage, records, row.name)
        other = None if use is None or undo else lookup.find(records, use).name
        if other == row.name:
            raise UsageError("a learnware cannot be used instead of itself", remedy="name another", about=row.name)
        time = now()
        deprecation = None if undo else Deprecation(other, because, time, by)
        if (deprecation is None) != (before.deprecated is None) or deprecation is not None:
            event = Event(time, by, "deprecate", "" if deprecation is None else str(deprecation))
            change(storage, records, before, before.with_deprecation(deprecation, event))
        return _row(records, row)


def move(storage: DockLayout, old: str, new: str, *, by: str = "", wanted: Callable[[], bool] = lambda: True) -> Row:
    """Give a learnware another name, or another owner, and return its row; the old name points to the new one.

    ``wanted`` is asked with the lock held, and nothing is moved where it is not wanted any more.

    Raises:
        NotFound: there is no such learnware.
        Conflict: the new name is, or was, another learnware's; or the move is not wanted any more.
        PackageError: ``new`` is not a name.
        StorageFull: no room; nothing was changed.
    """
    check_name(new)
    with writing(storage) as records:
        if not wanted():
            raise Conflict(f"is not to be called {new} any more", remedy="look where it is now", about=old)
        row = lookup.find(records, old)
        before = _state(storage, records, row.name)
        if new == row.name:
            return row
        target = agreed(storage, records, new)
        if target is not None and target.moved_to != row.name:
            raise Conflict("the name is taken, or was", remedy="choose one that was never used", about=new)
        event = Event(now(), by, "move", f"{row.name} to {new}")
        moved = before.moved(new)
        moved = replace(moved, history=(*moved.history, event))
        change(storage, records, target, moved, before.left(new), copied_from=row.name)
        found = records.row(new, row.number)
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
