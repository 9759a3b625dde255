"""How a person names a learnware of a dock, and which one is meant."""

from __future__ import annotations

import difflib
import re

from learndock.dock.storage.records import Records, Row
from learndock.errors import NotFound, PackageError, UsageError
from learndock.package.manifest import check_name

_VERSION = re.compile(r"[0-9a-f]{6,64}")


def find(records: Records, which: str) -> Row:
    """The learnware meant by ``owner/name`` or ``owner/name@`` and at least 6 hexadecimal digits.

    Raises:
        UsageError: what stands behind the @ is no version.
        NotFound: there is none; the message suggests names that are close.
    """
    name, version = _parted(which)
    row = _row(records, name)
    if row is None:
        raise NotFound(_not_found(records, name))
    if not row.digest.startswith(version):
        raise NotFound(f"the dock has version {row.digest[:12]}, not {version}", about=name)
    return row


def parse(which: str) -> tuple[str, str]:
    """Name, and version or "", of a learnware that is looked for elsewhere.

    Raises:
        UsageError: what stands behind the @ is no version.
        NotFound: what stands before it is no name.
    """
    name, version = _parted(which)
    try:
        return check_name(name), version
    except PackageError:
        raise NotFound("not in this dock", remedy="a name has the form owner/name", about=name) from None


def _parted(which: str) -> tuple[str, str]:
    name, at, version = which.partition("@")
    if at and not _VERSION.fullmatch(version.lower()):
        raise UsageError(
            f'"{which}": behind the @ stand 6 to 64 hexadecimal digits', remedy="`learndock list` shows them"
        )
    return name, version.lower()


def _row(records: Records, name: str) -> Row | None:
    try:
        return records.row(check_name(name))
    except PackageError:
        return None


def _not_found(records: Records, name: str) -> str:
    if records.tombstone(name) is not None:
        return f"{name}: was removed from this dock"
    names = records.names()
    if not names:
        return f"{name}: not in this dock, which is empty; `learndock add` fills it"
    own = {n.partition("/")[2]: n for n in names}
    close = difflib.get_close_matches(name, names, n=3) or [
        own[n] for n in difflib.get_close_matches(name.rpartition("/")[2], list(own), n=3)
    ]
    hint = f"did you mean {' or '.join(close)}?" if close else "`learndock list` shows what is"
    return f"{name}: not in this dock; {hint}"
