"""Which version of a learnware is ranked: one for each name.

It is the version tagged ``latest``, or where that has no spec in the asked space or does not pass the filters, the
newest earlier one that does. Versions above ``latest`` are never ranked: their owner moved the tag back.
"""

from __future__ import annotations

from collections.abc import Iterable

from learndock.dock.protocol import Record
from learndock.search.filters import Filters


def candidates(records: Iterable[Record], space_id: str, filters: Filters) -> list[Record]:
    """Return the candidate of each name among all published versions ``records``."""
    found: dict[str, Record] = {}
    for record in records:
        before = found.get(record.name)
        if before is not None and before.version > record.version:
            continue
        if record.version <= record.latest and _may(record, space_id, filters):
            found[record.name] = record
    return list(found.values())


def _may(record: Record, space_id: str, filters: Filters) -> bool:
    return any(entry.space_id == space_id for entry in record.manifest.specs) and record.passes(filters)
