"""Which versions `learndock get` wrote, so that a match can say that it is newer than the one you have.

A file in your own settings that only you can read; it never leaves this machine. ``LEARNDOCK_REMEMBER=0`` keeps none.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "LEARNDOCK_REMEMBER"
#: So many names are kept, the last ones.
KEPT = 1000


def file() -> Path:
    """The file of what was written."""
    import platformdirs

    return Path(platformdirs.user_config_dir("learndock")) / "versions.json"


def remember(dock: str, name: str, number: int) -> None:
    """Note that version ``number`` of a learnware was written; a disk that is full or read-only does not matter."""
    from learndock.files import atomic_write

    if not _wanted():
        return
    known = _read()
    known.pop(_key(dock, name), None)
    known[_key(dock, name)] = number
    place = file()
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place) as out:
            # The temporary file is readable by its owner alone; its mode is widened when it gets its name
            out.write(json.dumps(dict(list(known.items())[-KEPT:]), indent=1).encode() + b"\n")
        place.chmod(0o600)


def have(dock: str, names: list[str]) -> dict[str, int]:
    """Return name -> the version of it that was written last, of those ``names`` that were."""
    known = _read() if _wanted() else {}
    found = {name: known.get(_key(dock, name)) for name in names}
    return {name: number for name, number in found.items() if number is not None}


def place_of(dock: Any) -> str:
    """What a dock is remembered by: its address or its folder."""
    return str(getattr(dock, "url", None) or Path(dock.folder).absolute())


def _wanted() -> bool:
    return os.environ.get(VARIABLE, "1").casefold() not in ("0", "no", "off", "false")


def _key(dock: str, name: str) -> str:
    return f"{dock} {name.casefold()}"


def _read() -> dict[str, int]:
    try:
        found = json.loads(file().read_bytes())
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if type(v) is int} if isinstance(found, dict) else {}
