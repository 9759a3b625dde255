"""What goes over the wire, as JSON: the models behind the OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from learndock.dock.protocol import Record
from learndock.service.people import Token
from learndock.service.repositories import Commit, Entry, Repository
from learndock.service.uploads import Upload

Sha256 = str


class Shape(BaseModel):
    """Base of all; what is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class ErrorBody(Shape):
    """Why a request failed."""

    code: str
    message: str
    remedy: str


class ErrorShape(Shape):
    """Every answer with a status of 400 or more."""

    error: ErrorBody


class LearnwareShape(Shape):
    """A published learnware; ``sequence`` grows in the order of addition."""

    id: str
    name: str
    version: str
    sequence: int
    format: str
    task: dict[str, Any]
    license: str | None
    base: str | None
    description: str
    spaces: list[str]
    bytes: int

    @classmethod
    def of(cls, record: Record) -> LearnwareShape:
        """The JSON of a record."""
        manifest = record.manifest
        return cls(
            id=record.id,
            name=record.name,
            version=record.digest,
            sequence=record.sequence,
            format=manifest.format,
            task=manifest.task,
            license=manifest.license,
            base=None if manifest.base is None else manifest.base.name,
            description=manifest.description,
            spaces=[s.space for s in manifest.specs],
            bytes=sum(f.size for f in manifest.files),
        )


class RepositoryShape(Shape):
    """Files under a name. ``version`` is what the dock has of them, ``note`` why the head is no learnware."""

    name: str
    private: bool
    created: float
    changed: float
    head: str | None
    version: str | None
    note: str | None

    @classmethod
    def of(cls, found: Repository) -> RepositoryShape:
        """The JSON of a repository."""
        return cls(
            name=found.name,
            private=found.private,
            created=found.created,
            changed=found.changed,
            head=found.head,
            version=found.digest,
            note=found.note,
        )


class CommitShape(Shape):
    """A state of a repository; ``version`` is the learnware that it is, if it is one."""

    id: str
    author: str
    title: str
    body: str
    created: float
    version: str | None

    @classmethod
    def of(cls, found: Commit) -> CommitShape:
        """The JSON of a commit."""
        return cls(
            id=found.id,
            author=found.author,
            title=found.title,
            body=found.body,
            created=found.created,
            version=found.digest,
        )


class FileShape(Shape):
    """A file of a commit."""

    path: str
    sha256: str
    size: int

    @classmethod
    def of(cls, found: Entry) -> FileShape:
        """The JSON of a file."""
        return cls(path=found.path, sha256=found.sha256, size=found.size)


class UploadBegin(Shape):
    """What is to be uploaded; with ``part_size`` it comes in numbered parts of that many bytes."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, le=1 << 62)
    part_size: int | None = Field(default=None, ge=1, le=1 << 40)


class UploadShape(Shape):
    """An upload; it goes on at ``offset``, and is over when ``stored``."""

    id: str
    sha256: str
    size: int
    offset: int
    part_size: int | None
    parts: int
    stored: bool
    expires: float

    @classmethod
    def of(cls, found: Upload) -> UploadShape:
        """The JSON of an upload."""
        return cls(
            id=found.id,
            sha256=found.sha256,
            size=found.size,
            offset=found.offset,
            part_size=found.part_size,
            parts=found.part_count,
            stored=found.stored,
            expires=found.expires,
        )


class TokenShape(Shape):
    """A token; ``token`` is told once, when it is made."""

    id: int
    name: str
    scope: Literal["read", "write", "admin"]
    created: float
    expires: float
    token: str | None = None

    @classmethod
    def of(cls, found: Token) -> TokenShape:
        """The JSON of a token."""
        return cls(
            id=found.id,
            name=found.name,
            scope=found.scope,
            created=found.created,
            expires=found.expires,
            token=found.secret,
        )


#: What the OpenAPI description says of failures.
FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorShape, "description": what}
    for status, what in (
        (400, "The request cannot be used."),
        (401, "No token, or one that does not hold."),
        (403, "The token does not reach this far."),
        (404, "There is no such thing, or you may not see it."),
        (408, "The client did not keep up."),
        (409, "It is taken, or has changed meanwhile."),
        (413, "More bytes than allowed."),
        (422, "What came was read, and may not be stored."),
        (429, "Too many requests."),
        (503, "Not now."),
        (507, "No room."),
    )
}
