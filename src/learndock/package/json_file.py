"""Read untrusted JSON: with a size limit, without duplicate keys, NaN or endless nesting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from learndock.errors import LearndockError, ModelError
from learndock.strict_json import strict_json

MIB = 1 << 20
#: What a JSON text may hold: a value of two bytes takes sixty in memory.
MAX_CONTAINERS = 1_500_000
MAX_ITEMS = 4_000_000
CONFIG_LIMIT = MIB
VOCABULARY_LIMIT = 32 * MIB

#: Files that hold a vocabulary: large, and their keys are words of a language, not settings.
VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json"})


def parse_json(source: bytes, *, where: str, error: type[LearndockError] = ModelError) -> Any:
    """The value of a JSON text.

    Raises:
        error: not UTF-8, not JSON, a key twice, NaN or infinity, nested too deeply, or of too many parts; names
            ``where``.
    """
    if source.count(b"{") + source.count(b"[") > MAX_CONTAINERS or source.count(b",") > MAX_ITEMS:
        raise error(f"{where}: not sound JSON (more parts than a file of this kind has)")
    try:
        return strict_json(source)
    except ValueError as problem:
        raise error(f"{where}: not sound JSON ({problem}); save it again") from None


def limit_of(name: str) -> int:
    """How many bytes the JSON file called ``name`` may have."""
    return VOCABULARY_LIMIT if name in VOCABULARIES or name.endswith(".index.json") else CONFIG_LIMIT


def read_json(path: Path, *, where: str | None = None, error: type[LearndockError] = ModelError) -> Any:
    """The value of a JSON file.

    Raises:
        error: there is none, it is too large, or not sound JSON.
    """
    where = where or path.name
    limit = limit_of(path.name)
    try:
        with path.open("rb") as stream:
            source = stream.read(limit + 1)
    except FileNotFoundError:
        raise error(f"{where}: missing in {path.parent}") from None
    except OSError as problem:
        raise error(f"{where}: cannot be read ({problem.strerror})") from None
    if len(source) > limit:
        raise error(f"{where}: larger than the {limit // MIB} MiB that such a JSON file may have")
    return parse_json(source, where=where, error=error)


def read_object(path: Path, *, error: type[LearndockError] = ModelError) -> dict[str, Any]:
    """The JSON object in a file (see ``read_json``)."""
    found = read_json(path, error=error)
    if not isinstance(found, dict):
        raise error(f"{path.name}: not a JSON object")
    return found


def settings_in(value: Any) -> Iterator[tuple[str, Any]]:
    """Every ``(key, value)`` of all objects inside a JSON value."""
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, dict):
            yield from top.items()
            stack.extend(top.values())
        elif isinstance(top, list):
            stack.extend(top)
