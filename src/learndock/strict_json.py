"""JSON from files that strangers wrote: one meaning or none.

Below all rooms. Python's reader takes the last of two equal keys, and NaN and infinities, which other readers refuse
or read otherwise; here such a text is not JSON.
"""

from __future__ import annotations

import json
from typing import Any


def strict_json(source: bytes | str) -> Any:
    """Return the value of a JSON text (bytes are UTF-8).

    Raises:
        ValueError: not UTF-8, not JSON, a key twice in one object, NaN or infinity, or nested too deeply.
    """
    text = source.decode("utf-8") if isinstance(source, bytes) else source
    try:
        return json.loads(text, object_pairs_hook=unique_keys, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs; for ``object_pairs_hook``.

    Raises:
        ValueError: a key occurs twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'duplicate key "{twice[:60]}"')
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
