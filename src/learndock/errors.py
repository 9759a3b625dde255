"""Everything that learndock raises on purpose, and what each becomes outside.

    LearndockError
    ├── InputError              what the person handed over cannot be used
    │   ├── DataError           examples: file, row, what is wrong
    │   ├── SchemaError         the description of the task
    │   └── UsageError          options that contradict each other
    ├── SpaceError              a space is unknown, or broken
    │   ├── WeightsMissing      the helper's weights are not on this machine
    │   ├── WeightsChanged      a file of the space is not the published one
    │   └── SpaceMismatch       two specs that cannot be compared
    ├── SpecError               a spec file that cannot be trusted
    │   └── SuspectSpec         a spec that would crowd out the learnwares that are there
    ├── PackageError            a learnware folder
    │   ├── UnsafeModel         files that could run code when loaded
    │   ├── ModelError          a model that does not load, or does not do what its manifest says
    │   └── MissingExtra        an optional part of the install is needed
    ├── DockError               the dock itself
    │   ├── NotFound
    │   ├── Conflict            the name is taken by other content
    │   ├── Corrupt             stored bytes are not the bytes that were published
    │   └── StorageFull
    └── ServiceError            a dock behind an address
        ├── Unauthorized        no token, or one that does not hold
        ├── Forbidden           the token does not reach this far
        ├── TooLarge            more bytes than the service takes
        ├── QuotaExceeded       more bytes than the owner may keep
        ├── TooManyRequests     faster than the service allows
        ├── TooSlow             the client did not keep up
        └── Unavailable         not now

An error carries fields, and nothing is ever cut out of its text again: ``message`` is what happened, ``about`` what it
happened to (a path, a name), ``remedy`` what to try, ``retry_after`` when to try again. The edge that shows an error to
others decides by ``about`` what they may see.
"""

from __future__ import annotations

import re
from typing import Any, Self


class LearndockError(Exception):
    """Root of all errors that learndock raises on purpose.

    Args:
        message: what happened; ``{about}`` in it is replaced by ``about``, which otherwise comes first.
        remedy: what to try.
        about: what it happened to: a path, the name of a learnware.
        retry_after: seconds after which the same request may be sent again.

    >>> str(DataError("the file is empty", remedy="give one with rows", about="a.csv"))
    'a.csv: the file is empty; give one with rows'
    """

    def __init__(
        self, message: str = "", *, remedy: str = "", about: object = "", retry_after: float | None = None
    ) -> None:
        self.message = message
        self.remedy = remedy
        self.about = str(about)
        self.retry_after = retry_after
        super().__init__(message)

    @property
    def what(self) -> str:
        """What happened, to what: the text without the remedy."""
        if "{about}" in self.message:
            return self.message.replace("{about}", self.about)
        return f"{self.about}: {self.message}" if self.about else self.message

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what

    def changed(self, **fields: Any) -> Self:
        """Return an error of the same kind with some fields (message, remedy, about, retry_after) changed."""
        return type(self)(**{**self._fields(), **fields})

    def _fields(self) -> dict[str, Any]:
        return {
            "message": self.message,
            "remedy": self.remedy,
            "about": self.about,
            "retry_after": self.retry_after,
        }

    def __reduce__(self) -> tuple[Any, ...]:  # an error crosses from the process that looks at files
        return _remade, (type(self), self._fields())


def _remade(kind: type[LearndockError], fields: dict[str, Any]) -> LearndockError:
    return kind(**fields)


class InputError(LearndockError):
    """What the person handed over cannot be used."""


class DataError(InputError):
    """Examples that cannot be used; names the file and, where there is one, the row."""


class SchemaError(InputError):
    """A task description that cannot be used."""


class UsageError(InputError):
    """Options that contradict each other or miss something."""


class SpaceError(LearndockError):
    """A space is unknown, or its folder is broken."""


class WeightsMissing(SpaceError):
    """The helper's weights are not on this machine."""


class WeightsChanged(SpaceError):
    """A file of the space is not the published one; nothing was read with it."""


class SpaceMismatch(SpaceError):
    """Two specs that were not made in the same space cannot be compared."""


class SpecError(LearndockError):
    """A spec file that is damaged, foreign, or holds values that cannot be true."""


class SuspectSpec(SpecError):
    """A sound spec file whose numbers a dock does not take in: a copy of another's, near to everything, or not of
    any recipe's making."""


class PackageError(LearndockError):
    """A learnware folder that is incomplete or contradicts itself."""


class UnsafeModel(PackageError):
    """Files that could run somebody's code when loaded."""


class ModelError(PackageError):
    """A model that does not load, or does not do what its manifest says."""


class MissingExtra(PackageError):
    """An optional part of the install is needed for this."""


class DockError(LearndockError):
    """The dock could not do what was asked."""


class NotFound(DockError):
    """No such learnware in this dock."""


class Conflict(DockError):
    """The name is taken by other content."""


class Corrupt(DockError):
    """Stored bytes are not the bytes that were published."""


class StorageFull(DockError):
    """The disk has no room; nothing was changed."""


class ServiceError(LearndockError):
    """A dock behind an address did not do what was asked."""


class Unauthorized(ServiceError):
    """No token, or one that is unknown, expired or revoked."""


class Forbidden(ServiceError):
    """The token does not reach this far."""


class TooLarge(ServiceError):
    """More bytes than the service takes."""


class QuotaExceeded(ServiceError):
    """More bytes than the owner may keep."""


class TooManyRequests(ServiceError):
    """Faster than the service allows."""


class TooSlow(ServiceError):
    """The client did not send what it announced in time."""


class Unavailable(ServiceError):
    """The service cannot answer now; nothing was changed."""


#: error class -> (exit code of the command line, HTTP status). Each class has its line; a test says so.
STATUS: dict[type[LearndockError], tuple[int, int]] = {
    LearndockError: (1, 500),
    InputError: (3, 422),
    DataError: (3, 422),
    SchemaError: (4, 422),
    UsageError: (2, 400),
    SpaceError: (10, 422),
    WeightsMissing: (11, 503),
    WeightsChanged: (12, 500),
    SpaceMismatch: (13, 422),
    SpecError: (14, 422),
    SuspectSpec: (15, 422),
    PackageError: (20, 422),
    UnsafeModel: (21, 422),
    ModelError: (22, 422),
    MissingExtra: (23, 501),
    DockError: (30, 500),
    NotFound: (31, 404),
    Conflict: (32, 409),
    Corrupt: (33, 500),
    StorageFull: (34, 507),
    ServiceError: (40, 500),
    Unauthorized: (41, 401),
    Forbidden: (42, 403),
    TooLarge: (43, 413),
    QuotaExceeded: (44, 413),
    TooManyRequests: (45, 429),
    TooSlow: (46, 408),
    Unavailable: (47, 503),
}


def code_of(kind: type[BaseException]) -> str:
    """Return the name of an error class in JSON: ``NotFound`` is ``not_found``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()


#: Name in JSON -> error class.
KINDS: dict[str, type[LearndockError]] = {code_of(kind): kind for kind in STATUS}


#: Exit code of ``learndock identify`` where nothing fits: an answer, not an error.
NOTHING_FITS = 35


def exit_code(error: BaseException) -> int:
    """The command line's exit code for ``error`` (1 for whatever is not ours)."""
    return _status(error)[0]


def http_status(error: BaseException) -> int:
    """The HTTP status for ``error`` (500 for whatever is not ours)."""
    return _status(error)[1]


def _status(error: BaseException) -> tuple[int, int]:
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return (1, 500)
