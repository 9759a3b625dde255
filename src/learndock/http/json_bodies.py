"""JSON that strangers sent: bounded before it is parsed, and text that every store can keep.

Python's parser keeps all other threads waiting while it works, and a byte of JSON may cost fifty bytes of memory. The
number of values and the depth are therefore counted in the bytes first.
"""

from __future__ import annotations

import re
from typing import Any

from learndock.errors import UsageError
from learndock.strict_json import strict_json

#: Objects and arrays inside each other; a manifest has five.
MAX_DEPTH = 64
#: Values in one text: 10,000 files of a commit are 40,000.
MAX_VALUES = 400_000
_STRINGS_AND_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
#: How the characters that no text may have are written: NUL, and one half of a surrogate pair.
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def read_json(source: bytes, *, about: str = "the body") -> Any:
    """Return the value of a JSON text; ``about`` is what an error names.

    Raises:
        UsageError: it is not JSON, too deep, has too many values, or has text that cannot be stored.
    """
    opening = source.count(b"[") + source.count(b"{")
    if opening + source.count(b",") > MAX_VALUES:
        raise UsageError(f"more than {MAX_VALUES:,} values", remedy="send less at once", about=about)
    if opening > MAX_DEPTH and _depth(source) > MAX_DEPTH:
        raise UsageError(f"nested deeper than {MAX_DEPTH} levels", remedy="send it flatter", about=about)
    try:
        found = strict_json(source)
    except ValueError as error:
        reason = str(error).partition(";")[0]
        raise UsageError(f"is not valid JSON ({reason})", remedy="send JSON in UTF-8", about=about) from None
    if _SUSPECT.search(source):
        _check_texts(found, about)
    return found


def check_text(text: str, *, about: str) -> None:
    """Check that ``text`` is Unicode without NUL, which databases refuse.

    Raises:
        UsageError: it is not.
    """
    if "\0" in text:
        raise UsageError("contains a NUL character", remedy="remove it", about=about)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("contains an unpaired surrogate", remedy="fix its encoding", about=about) from None


def _depth(source: bytes) -> int:
    depth = deepest = 0
    for found in _STRINGS_AND_BRACKETS.finditer(source):
        mark = found[0]
        if mark in (b"[", b"{"):
            depth += 1
            if depth > deepest:
                deepest = depth
                if deepest > MAX_DEPTH:
                    break
        elif mark in (b"]", b"}"):
            depth -= 1
    return deepest


def _check_texts(value: Any, about: str) -> None:
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            check_text(each, about=about)
        elif isinstance(each, dict):
            left += each
            left += each.values()
        elif isinstance(each, list):
            left += each
