"""How a person names a learnware of a dock, and which version is meant.

owner/name             the version tagged ``latest``
owner/name@v2          version 2
owner/name@TAG         the version with this tag
owner/name@HEXDIGITS   the version whose digest begins with these (6 digits at least)

The name of a learnware that was moved means the one that it has now.
"""

from __future__ import annotations

import difflib
import json
import re

from learndock.dock.storage.publications import Publication
from learndock.dock.storage.records import Records, Row
from learndock.errors import NotFound, PackageError, UsageError
from learndock.package.manifest import check_name

_REFERENCE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_NUMBER = re.compile(r"v([0-9]{1,9})")
DIGEST = re.compile(r"[0-9a-f]{6,64}")

#: How often a learnware's new name is followed to one that it got later.
_MOVES = 16
#: What to try where a dock has no such learnware.
SEE_LIST = "`learndock list` shows what is there"


def find(records: Records, which: str) -> Row:
    """Return the learnware ``owner/name``, or the version ``owner/name@REFERENCE``.

    Raises:
        UsageError: what follows the @ is not a reference.
        NotFound: there is none; the remedy suggests names that are close.
    """
    name, reference = _parted(which)
    row = _row(records, name)
    for _ in range(_MOVES):
        new = None if row is not None else moved_to(records, name)
        if new is None:
            break
        name, row = new, _row(records, new)
    if row is None:
        raise _not_found(records, name)
    if reference in ("", "latest"):
        return row
    number = _number(reference, records.digests(name), json.loads(row.about).get("tags", {}))
    found = None if number is None else records.row(name, number)
    if found is None:
        raise NotFound(
            f"has no version {reference[:64]}; latest is v{row.number}",
            remedy=SEE_LIST,
            about=name,
        )
    return found


def number_of(publication: Publication, reference: str) -> int | None:
    """Return the number of the published version that ``reference`` means; None where there is none.

    Raises:
        UsageError: it is not a reference.
    """
    _, reference = _parted(f"{publication.name}@{reference.removeprefix('@')}")
    if reference == "latest":
        return publication.latest
    found = {v.number: v.digest for v in publication.published_versions()}
    return _number(reference, found, dict(publication.tags))


def parse(which: str) -> tuple[str, str]:
    """Return name, and reference or "", of a learnware that is looked up elsewhere.

    Raises:
        UsageError: what follows the @ is not a reference.
        NotFound: what precedes it is not a name.
    """
    name, reference = _parted(which)
    try:
        return check_name(name), reference
    except PackageError:
        raise NotFound("not in this dock", remedy=SEE_LIST, about=name) from None


def _parted(which: str) -> tuple[str, str]:
    name, at, reference = which.partition("@")
    if at and not _REFERENCE.fullmatch(reference.lower()):
        raise UsageError(
            f"{reference[:80]!r} is not a version",
            remedy="write v1, a tag, or 6 to 64 hexadecimal digits",
            about=which[:200],
        )
    return name, reference.lower()


def _number(reference: str, digests: dict[int, str], tags: dict[str, int]) -> int | None:
    """Return the number that a reference means among ``digests`` (of published versions, by number)."""
    numbered = _NUMBER.fullmatch(reference)
    if numbered:
        return int(numbered[1]) if int(numbered[1]) in digests else None
    if reference in tags:
        return tags[reference]
    if DIGEST.fullmatch(reference):
        found = [number for number, digest in digests.items() if digest.startswith(reference)]
        if len({digests[number] for number in found}) > 1:
            raise UsageError(
                f"{reference} begins the digests of {len(found)} versions", remedy="write more digits, or its number"
            )
        return max(found, default=None)
    return None


def moved_to(records: Records, name: str) -> str | None:
    """Return the name that the learnware ``name`` was given when it was moved; None where it was not."""
    known = records.known(name)
    if known is None or known.latest is not None:
        return None
    found = json.loads(known.about).get("moved_to")
    return None if found is None else str(found)


def _row(records: Records, name: str) -> Row | None:
    try:
        return records.row(check_name(name))
    except PackageError:
        return None


def _not_found(records: Records, name: str) -> NotFound:
    if records.known(name) is not None:
        return NotFound("was removed from this dock", remedy=SEE_LIST, about=name)
    names = records.names()
    if not names:
        return NotFound("not in this dock, which is empty", remedy="`learndock add` fills it", about=name)
    own = {n.partition("/")[2]: n for n in names}
    close = difflib.get_close_matches(name, names, n=3) or [
        own[n] for n in difflib.get_close_matches(name.rpartition("/")[2], list(own), n=3)
    ]
    remedy = f"did you mean {' or '.join(close)}?" if close else SEE_LIST
    return NotFound("not in this dock", remedy=remedy, about=name)
