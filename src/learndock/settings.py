"""The one table of settings: each is a flag of ``learndock serve``, an environment variable, and a line of a file.

A flag wins over the environment, that over the file, that over the default. ``docs/service.md`` is made from it.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from learndock.errors import UsageError

PREFIX = "LEARNDOCK_"
FILE = "learndock.toml"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kMGT])(i?))?B?", re.IGNORECASE)
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Size(int):
    """Marks a setting that is a number of bytes, written ``50GB``."""


def words(value: str) -> list[str]:
    """Return the items of a setting that is a list, separated by commas or spaces."""
    return value.replace(",", " ").split()


def _networks(value: str) -> str:
    """Check that a setting is a list of addresses and networks.

    Raises:
        ValueError: it is not.
    """
    from ipaddress import ip_network

    return ",".join(str(ip_network(each, strict=False)) for each in words(value))


def _origins(value: str) -> str:
    """Check that a setting is "*" or a list of origins, as a browser names them.

    Raises:
        ValueError: it is not.
    """
    found = [each.lower() for each in words(value)]
    if not all(each == "*" or re.fullmatch(r"https?://[a-z0-9.\[\]:-]+", each) for each in found):
        raise ValueError(value)
    return ",".join(found)


@dataclass(frozen=True)
class Limits:
    """What a setting may be: a number from ``least`` to ``most``, one of ``words``, or a text that ``begins`` so.

    With ``named`` the text is a URL that names a host, or a bucket.
    """

    least: float | None = None
    most: float | None = None
    words: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    named: str = ""
    why: str = ""

    def broken_by(self, value: Any) -> str:
        """What the value must be instead; empty where it is allowed."""
        if self.words and value not in self.words:
            return f"must be {', '.join(self.words[:-1])} or {self.words[-1]}"
        if self.begins and value and not value.startswith(self.begins):
            return f"must begin with {' or '.join(self.begins)}"
        if self.named and value and not _names(value):
            return f"must name a {self.named}, as in {self.why}"
        if self.least is not None and not self.least <= value <= (math.inf if self.most is None else self.most):
            bounds = f"at least {self.least:g}" if self.most is None else f"{self.least:g} to {self.most:,g}"
            return f"must be {bounds}" + (f" ({self.why})" if self.why else "")
        if isinstance(value, float) and not math.isfinite(value):
            return "must be a finite number"
        return ""


def _names(value: str) -> bool:
    """Whether a URL has a host, or a bucket, a port that can be one, and nothing after the path."""
    try:
        parts = urlsplit(value)
        sound = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    # urlsplit ignores or removes spaces and control characters
    return sound and not (parts.query or parts.fragment or parts.username) and all("!" <= c <= "~" for c in value)


_ADDRESS = Limits(begins=("http://", "https://"), named="host", why="https://dock.example or http://10.0.0.5:7080")
#: Numbers that count, and those that may be switched off.
_COUNT, _NONE = Limits(least=1), Limits(least=0)


def _setting(
    default: Any,
    about: str,
    limits: Limits = Limits(),
    *,
    secret: bool = False,
    kind: Callable[[Any], Any] | None = None,
) -> Any:
    return dataclasses.field(
        default=default, metadata={"about": about, "limits": limits, "secret": secret, "kind": kind or type(default)}
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a service runs."""

    host: str = _setting("127.0.0.1", "address to listen at; 0.0.0.0 for all")
    port: int = _setting(7080, "port to listen at; 0 takes a free one", Limits(least=0, most=65535))
    public_url: str = _setting(
        "", "address (http://...) under which clients reach the service; default: the one they asked for", _ADDRESS
    )
    trusted_proxies: str = _setting(
        "",
        "addresses and networks (127.0.0.1, 10.0.0.0/8) of proxies whose X-Forwarded-For and X-Forwarded-Proto are "
        "believed; default: none",
        kind=_networks,
    )
    cors: str = _setting(
        "",
        "origins (https://app.example, or * for all) whose pages may read, in a browser, what is public; default: none",
        kind=_origins,
    )
    database: str = _setting(
        "",
        "postgresql://user:password@host/name; default: SQLite files in the dock's folder",
        Limits(begins=("postgresql://",)),
        secret=True,
    )
    objects: str = _setting(
        "",
        "s3://bucket/prefix for the files' bytes; default: the dock's folder",
        Limits(begins=("s3://",), named="bucket", why="s3://bucket/prefix"),
    )
    objects_endpoint: str = _setting("", "address of the S3-compatible store; default: the vendor's own", _ADDRESS)
    objects_key: str = _setting(
        "",
        'access key of the S3-compatible store; "role" for that of the machine\'s own role in its cloud',
        secret=True,
    )
    objects_secret: str = _setting("", "secret key of the S3-compatible store", secret=True)
    max_file: int = _setting(50 * 10**9, "largest file", _COUNT, kind=Size)
    max_request: int = _setting(
        16 * 10**6, "largest request that is not an upload; most routes take 64kB at most", _COUNT, kind=Size
    )
    body_memory: int = _setting(
        64 * 10**6,
        "memory for the bodies of all requests together, a quarter of it for one client; what does not fit is "
        "refused with 503",
        Limits(least=10**6),
        kind=Size,
    )
    max_files: int = _setting(
        1000, "most files of one repository", Limits(least=1, most=1000, why="a learnware has at most 1,000 files")
    )
    quota: int = _setting(
        200 * 10**9, "bytes that an owner may store, unless the operator sets another quota", _NONE, kind=Size
    )
    rate: float = _setting(
        200.0,
        "requests per second of one token, or of an address without one (with one: ten times that); 0: no limit",
        _NONE,
    )
    burst: int = _setting(2000, "requests that may come at once before the rate counts", _COUNT)
    concurrent_requests: int = _setting(
        256, "requests of one token, or of an address without one, that are answered at once; 0: no limit", _NONE
    )
    concurrent_uploads: int = _setting(8, "uploads that one owner may send at once", _COUNT)
    min_upload_rate: int = _setting(10_000, "bytes per second below which an upload is ended", _NONE, kind=Size)
    request_seconds: float = _setting(
        30.0, "longest silence while the service waits for a request's body", Limits(least=0.1)
    )
    token_days: int = _setting(90, "days until a token expires, unless its owner asks for another number", _COUNT)
    upload_hours: float = _setting(
        24.0, "hours that an unfinished upload, or a file without a commit, is kept", Limits(least=0.01)
    )
    gc_hours: float = _setting(6.0, "hours between two runs of `gc`; 0: none", _NONE)
    scrub_hours: float = _setting(168.0, "hours in which every stored byte is hashed again once; 0: never", _NONE)
    stop_seconds: float = _setting(20.0, "seconds that running requests are given when the service stops", _NONE)
    route_space: str = _setting(
        "",
        "space whose helper reads prompts that clients send to /route, e.g. minilm-l6; default: none, and clients "
        "compute a prompt's domain themselves",
    )
    log: str = _setting("info", "debug, info, warning or error", Limits(words=("debug", "info", "warning", "error")))


#: What a value of each kind must be.
_WANTED: dict[Any, str] = {
    Size: "a size such as 50GB",
    int: "a whole number",
    float: "a number",
    _networks: "a list of addresses and networks such as 127.0.0.1, 10.0.0.0/8",
    _origins: 'a list of origins such as https://app.example, or "*"',
}
FIELDS = {f.name: f for f in dataclasses.fields(Settings)}


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def flag(name: str) -> str:
    """The flag of a setting."""
    return "--" + name.replace("_", "-")


def described() -> Iterator[tuple[str, str, str, str]]:
    """(flag, variable, default, what it says) of each setting; the line of the file is the plain name."""
    for name, field in FIELDS.items():
        yield flag(name), variable(name), shown(name, field.default), field.metadata["about"]


def shown(name: str, value: Any) -> str:
    """The value of a setting as a person writes it."""
    if FIELDS[name].metadata["kind"] is Size:
        for unit, factor in reversed(_FACTORS.items()):
            if value >= factor and value % factor == 0:
                return f"{value // factor}{unit}B"
    return str(value)


def load(
    flags: Mapping[str, Any] = types.MappingProxyType({}),
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Settings from flags, the environment, and a file.

    Raises:
        UsageError: an unknown name, or a value that is of another kind.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for name, value in _of_file(file).items():
        if name not in FIELDS:
            raise UsageError(
                f'there is no setting "{name}"',
                remedy="`learndock serve --help` and docs/settings.md list them",
                about=file,
            )
        values[name] = _parsed(name, value, where=f"{file}: {name}")
    for name in FIELDS:
        if (value := environment.get(variable(name))) is not None:
            values[name] = _parsed(name, value, where=variable(name))
    for name, value in flags.items():
        if value is not None:
            values[name] = _parsed(name, value, where=flag(name))
    return Settings(**values)


def _of_file(file: Path | None) -> dict[str, Any]:
    if file is None or not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"cannot be read as TOML ({error})", remedy="write lines such as port = 7080", about=file
        ) from None


def _parsed(name: str, value: Any, *, where: str) -> Any:
    kind, limits = FIELDS[name].metadata["kind"], FIELDS[name].metadata["limits"]
    try:
        parsed = _bytes(str(value)) if kind is Size else kind(value)
    except ValueError:
        wanted = _WANTED.get(kind, "a text")
        raise UsageError(f'"{value}" is not {wanted}', about=where) from None
    if wanted := limits.broken_by(parsed):
        shown_value = "what is given" if FIELDS[name].metadata["secret"] else f'"{value}"'
        raise UsageError(f"{shown_value} cannot be used", remedy=f"it {wanted}", about=where)
    return parsed


def size(value: str, *, where: str) -> int:
    """A number of bytes that a person writes as ``50GB``.

    Raises:
        UsageError: it is not one; names ``where`` it was given.
    """
    try:
        return _bytes(value)
    except ValueError:
        raise UsageError(f'"{value}" is not a size', remedy="write a size such as 50GB", about=where) from None


def _bytes(value: str) -> int:
    found = _SIZE.fullmatch(value)
    if found is None:
        raise ValueError(value)
    unit = (found[2] or "").upper()
    power = " KMGT".index(unit or " ")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def public(settings: Settings) -> dict[str, str]:
    """The settings without what is secret: for logs."""
    return {n: shown(n, getattr(settings, n)) for n, f in FIELDS.items() if not f.metadata["secret"]}
