"""Tokens for services, as ``learndock login`` stores them, in a file that only its owner can read.

``LEARNDOCK_TOKEN`` wins over the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from learndock.errors import UsageError
from learndock.files import atomic_write

VARIABLE = "LEARNDOCK_TOKEN"


def file() -> Path:
    """Return the file of the tokens."""
    import platformdirs

    return Path(platformdirs.user_config_dir("learndock")) / "tokens.json"


def base_url(url: str) -> str:
    """Return the address of a service without credentials, query and fragment: scheme, host, port, path.

    Raises:
        UsageError: it is not an http or https address.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    # urlsplit ignores or removes spaces and control characters.
    if not sound or not all("!" <= c <= "~" for c in url):
        raise UsageError("is not the address of a service", remedy="write http://host:port", about=repr(url[:200]))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}{parts.path.rstrip('/')}"


def token_for(url: str) -> str | None:
    """Return the token for a service, if there is one."""
    return os.environ.get(VARIABLE) or _read().get(base_url(url))


def keep(url: str, token: str | None) -> None:
    """Store a token for a service, or delete it (None)."""
    known = _read()
    known.pop(base_url(url), None)
    if token is not None:
        known[base_url(url)] = token
    place = file()
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(place) as out:
        # The temporary file is readable by its owner alone; its mode is widened when it gets its name.
        out.write(json.dumps(known, indent=1).encode() + b"\n")
    place.chmod(0o600)


def _read() -> dict[str, str]:
    try:
        found = json.loads(file().read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise UsageError("cannot be read", remedy="remove it, and `learndock login` again", about=file()) from None
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}
