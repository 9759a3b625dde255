"""The JSON of requests and answers: the models of the OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from learndock.dock.protocol import Record
from learndock.service.changes import Commit, Entry, Repository
from learndock.service.people import Token
from learndock.service.uploads import Upload

Sha256 = str


class BaseSchema(BaseModel):
    """Base of all schemas; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class ErrorBody(BaseSchema):
    """Why a request failed."""

    code: str
    message: str
    remedy: str
    retry_after: float | None = Field(default=None, description="Seconds; only where waiting helps.")


class ErrorSchema(BaseSchema):
    """Every answer with a status of 400 or more."""

    error: ErrorBody


class DeprecationSchema(BaseSchema):
    """Why a learnware should not be used any more, and what to ``use`` instead."""

    use: str | None
    because: str
    time: str
    by: str


class LearnwareSchema(BaseSchema):
    """A version of a published learnware; only the owner sees a ``private`` one.

    ``version`` is its number, ``latest`` the number that the name alone stands for, and ``tags`` are the other tags of
    this version. ``sequence`` grows in order of addition. ``published_at`` is in UTC, or "" where learndock 0.1.0
    published it. ``supersedes`` is the learnware that this version replaced, and ``former`` the names that it
    had before it was moved. ``license`` and ``description`` are the
    present ones; ``said`` is what the card says of license, description and tags.
    """

    id: str
    name: str
    digest: str
    sequence: int
    format: str
    task: dict[str, Any]
    license: str | None
    base: str | None
    description: str
    spaces: list[str]
    bytes: int
    private: bool
    version: int
    latest: int
    tags: list[str]
    published_at: str
    supersedes: str | None
    former: list[str]
    deprecated: DeprecationSchema | None
    said: dict[str, Any]

    @classmethod
    def of(cls, record: Record, *, private: bool) -> LearnwareSchema:
        """Return the JSON of a record; ``private`` is whether only its owner may see it."""
        manifest = record.manifest
        return cls(
            id=record.id,
            name=record.name,
            digest=record.digest,
            sequence=record.sequence,
            format=manifest.format,
            task=manifest.task,
            license=record.license,
            base=None if manifest.base is None else manifest.base.name,
            description=record.description,
            spaces=[s.space for s in manifest.specs],
            bytes=sum(f.size for f in manifest.files),
            private=private,
            version=record.version,
            latest=record.latest,
            tags=list(record.tags),
            published_at=record.published_at,
            supersedes=record.supersedes,
            former=list(record.former),
            deprecated=None
            if record.deprecated is None
            else DeprecationSchema.model_validate(record.deprecated.to_dict()),
            said=record.said.to_dict(),
        )


class RepositorySchema(BaseSchema):
    """Files under a name. ``digest`` is that of the published learnware, ``note`` says why the head is not one."""

    name: str
    private: bool
    created: float
    changed: float
    head: str | None
    digest: str | None
    note: str | None

    @classmethod
    def of(cls, found: Repository) -> RepositorySchema:
        """Return the JSON of a repository."""
        return cls(
            name=found.name,
            private=found.private,
            created=found.created,
            changed=found.changed,
            head=found.head,
            digest=found.digest,
            note=found.note,
        )


class CommitSchema(BaseSchema):
    """A state of a repository; ``digest`` is that of the learnware in its files, if there is one."""

    id: str
    author: str
    title: str
    body: str
    created: float
    digest: str | None

    @classmethod
    def of(cls, found: Commit) -> CommitSchema:
        """Return the JSON of a commit."""
        return cls(
            id=found.id,
            author=found.author,
            title=found.title,
            body=found.body,
            created=found.created,
            digest=found.digest,
        )


class FileSchema(BaseSchema):
    """A file of a commit."""

    path: str
    sha256: str
    size: int

    @classmethod
    def of(cls, found: Entry) -> FileSchema:
        """Return the JSON of a file."""
        return cls(path=found.path, sha256=found.sha256, size=found.size)


class UploadBegin(BaseSchema):
    """A file to upload; with ``part_size`` in numbered parts of that many bytes."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, le=1 << 62)
    part_size: int | None = Field(default=None, ge=1, le=1 << 40)


class UploadSchema(BaseSchema):
    """An upload; it continues at ``offset``, and is complete when ``stored``."""

    id: str
    sha256: str
    size: int
    offset: int
    part_size: int | None
    parts: int
    stored: bool
    expires: float

    @classmethod
    def of(cls, found: Upload) -> UploadSchema:
        """Return the JSON of an upload."""
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


class TokenSchema(BaseSchema):
    """A token; its secret, ``token``, is shown only when it is made."""

    id: int
    name: str
    scope: Literal["read", "write", "admin"]
    created: float
    expires: float
    token: str | None = None

    @classmethod
    def of(cls, found: Token) -> TokenSchema:
        """Return the JSON of a token."""
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
    status: {"model": ErrorSchema, "description": what}
    for status, what in (
        (400, "The request cannot be used."),
        (401, "No token, or one that is unknown, expired or revoked."),
        (403, "The token may not do this."),
        (404, "There is no such thing, or you may not see it."),
        (408, "The client was too slow."),
        (409, "The name is taken, or something was changed by another request."),
        (413, "Too many bytes."),
        (422, "The content was read and refused."),
        (429, "Too many requests."),
        (503, "Temporarily unavailable."),
        (507, "No space left."),
    )
}
