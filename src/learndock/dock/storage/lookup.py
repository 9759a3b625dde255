"""How a person names a learnware of a dock, and which one is meant."""

from __future__ import annotations

import difflib
import re

from learndock.dock.storage.records import Records, Row
from learndock.errors import NotFound, PackageError, UsageError
from learndock.package.manifest import check_name

_VERSION = re.compile(r"[0-9a-f]{6,64}")


#: What to try where a dock has no such learnware.
SEE_LIST = "`learndock list` shows what is there"


def find(records: Records, which: str) -> Row:
    """Return the learnware ``owner/name``, or ``owner/name@`` and at least 6 hexadecimal digits.

    Raises:
        UsageError: what follows the @ is not a version.
        NotFound: there is none; the remedy suggests names that are close.
    """
    name, version = _parted(which)
    row = _row(records, name)
    if row is None:
        raise _not_found(records, name)
    if not row.digest.startswith(version):
        raise NotFound(f"the dock has version {row.digest[:12]}, not {version}", remedy=SEE_LIST, about=name)
    return row


def parse(which: str) -> tuple[str, str]:
    """Return name, and version or "", of a learnware that is looked up elsewhere.

    Raises:
        UsageError: what follows the @ is not a version.
        NotFound: what precedes it is not a name.
    """
    name, version = _parted(which)
    try:
        return check_name(name), version
    except PackageError:
        raise NotFound("not in this dock", remedy=SEE_LIST, about=name) from None


def _parted(which: str) -> tuple[str, str]:
    name, at, version = which.partition("@")
    if at and not _VERSION.fullmatch(version.lower()):
        raise UsageError(
            f"the version {version[:80]!r} is not 6 to 64 hexadecimal digits", remedy=SEE_LIST, about=which[:200]
        )
    return name, version.lower()


def _row(records: Records, name: str) -> Row | None:
    try:
        return records.row(check_name(name))
    except PackageError:
        return None


def _not_found(records: Records, name: str) -> NotFound:
    if records.tombstone(name) is not None:
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
