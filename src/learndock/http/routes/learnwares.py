"""Learnwares: list, read, download, publish and remove them."""

from __future__ import annotations

import asyncio
import bisect
import json
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, ValidationError

from learndock.dock.protocol import Record
from learndock.dock.storage.names import Edit
from learndock.dock.summary import has_words
from learndock.errors import NotFound, UsageError
from learndock.http import bodies
from learndock.http.bodies import LARGE
from learndock.http.door import DoorRoute, with_limit
from learndock.http.files import blob_response
from learndock.http.json_bodies import read_json
from learndock.http.principal import Anyone, ServiceOf, Writer
from learndock.http.routes import PREFIX
from learndock.http.schemas import FAILURES, BaseSchema, LearnwareSchema
from learndock.package.manifest import MANIFEST, Manifest
from learndock.search.filters import Filters
from learndock.service.principal import Principal
from learndock.service.service import Published, Service

router = APIRouter(prefix=PREFIX, route_class=DoorRoute, tags=["learnwares"], responses=FAILURES)
Owner = Annotated[str, Path(min_length=1, max_length=96, pattern=r"^[A-Za-z0-9._-]+$")]
Name = Annotated[str, Path(min_length=1, max_length=96, pattern=r"^[A-Za-z0-9._-]+$")]
Digest = Annotated[
    str | None, Query(pattern=r"^[0-9a-f]{6,64}$", description="At least 6 digits of the SHA-256 of its manifest.")
]
REFERENCE = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Reference = Annotated[
    str | None,
    Query(max_length=64, pattern=REFERENCE, description="Version: v2, a tag, or at least 6 digits of the digest."),
]
Version = Annotated[str, Path(max_length=64, pattern=REFERENCE)]
Tag = Annotated[str, Path(min_length=1, max_length=64)]
JSON = "application/json"
P = ParamSpec("P")
T = TypeVar("T")


class Page(BaseSchema):
    """Learnwares in order of addition; ``next`` is the ``after`` of the next page, or null.

    ``found`` is how many fit the question, ``total`` how many you may see.
    """

    learnwares: list[LearnwareSchema]
    next: int | None
    found: int
    total: int


class Submission(BaseSchema):
    """The manifest of a learnware whose files are uploaded; ``private`` hides it from others, also if it was public.

    With ``after`` ("v1", a tag or a digest) it is published only if that version is ``latest``. ``supersedes`` is a
    learnware of yours that is deprecated in favour of this one.
    """

    manifest: dict[str, Any]
    private: bool = Field(default=False)
    after: str | None = Field(default=None, max_length=64)
    supersedes: str | None = Field(default=None, max_length=200)
    card: str | None = Field(default=None, description="The text of README.md, if the manifest does not list it.")


class InlineSubmission(Submission):
    """The first line of a learnware that comes with its files: the paths of those that follow."""

    files: list[Annotated[str, Field(max_length=512)]]


class LearnwareWithManifest(LearnwareSchema):
    """A learnware with its manifest."""

    manifest: dict[str, Any]


class VersionSchema(LearnwareWithManifest):
    """A version, and the commits of its repository that have its files."""

    commits: list[str]


class Versions(BaseSchema):
    """The versions of a learnware, by number."""

    versions: list[VersionSchema]


class Tagging(BaseSchema):
    """The version that gets the tag: ``v2``, another tag, or at least 6 digits of its digest."""

    version: str = Field(max_length=64, pattern=REFERENCE)


class CardSchema(BaseSchema):
    """The present card of a learnware, the text of README.md; "" where it has none."""

    card: str


class Editing(BaseSchema):
    """What changes of a card: all of it, or its license, description and tags. "" removes a license or description."""

    card: str | None = None
    license: str | None = Field(default=None, max_length=200)
    description: str | None = Field(default=None, max_length=10_000)
    tags: list[str] = Field(default_factory=list, max_length=100)
    untag: list[str] = Field(default_factory=list, max_length=100)


class Deprecating(BaseSchema):
    """Why a learnware should not be used any more, and the one to use instead."""

    use: str | None = Field(default=None, max_length=200)
    because: str = Field(default="", max_length=10_000)


class RemovedSchema(BaseSchema):
    """The version that was removed, and those that remain, by number."""

    removed: LearnwareSchema
    remaining: list[LearnwareSchema]


class PageWithManifests(BaseSchema):
    """A ``Page`` of learnwares with their manifests."""

    learnwares: list[LearnwareWithManifest]
    next: int | None
    found: int
    total: int


@router.get("/learnwares", response_model=Page | PageWithManifests)
async def list_learnwares(
    who: Anyone,
    service: ServiceOf,
    after: Annotated[int, Query(ge=0, le=1 << 62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    format: Annotated[str | None, Query(max_length=64)] = None,  # noqa: A002 - the field's name
    task: Annotated[str | None, Query(max_length=64)] = None,
    license: Annotated[str | None, Query(max_length=64)] = None,  # noqa: A002 - the field's name
    base: Annotated[str | None, Query(max_length=200)] = None,
    owner: Annotated[str | None, Query(max_length=96)] = None,
    text: Annotated[
        str | None, Query(max_length=400, description="Words that all occur in name, description or labels.")
    ] = None,
    include_manifest: Annotated[bool, Query(description="Add each learnware's manifest.")] = False,
) -> Response:
    """List the learnwares that you may see."""
    filters = Filters(format=format, task=task, license=license, base=base, owner=owner)
    every = await asked(service, service.catalogue.records, who)
    found = every
    if text or not filters.empty:  # of 10,000 learnwares a few milliseconds: not on the event loop
        found = await run_in_threadpool(_chosen, every, filters, text or "")
    start = bisect.bisect_right(found, after, key=lambda r: r.sequence)
    page = found[start : start + limit]
    more = page[-1].sequence if start + limit < len(found) else None
    if include_manifest:
        body = ",".join(_with_manifest(service, r) for r in page)
        counts = f'"next":{"null" if more is None else more},"found":{len(found)},"total":{len(every)}'
        return Response(f'{{"learnwares":[{body}],{counts}}}', media_type=JSON)
    page_of = [_schema(service, r) for r in page]
    return json_response(Page(learnwares=page_of, next=more, found=len(found), total=len(every)))


@router.post("/learnwares", status_code=201)
@with_limit(LARGE)
def publish(asked: Submission, who: Writer, service: ServiceOf, response: Response) -> LearnwareSchema:
    """Publish a learnware, completely or not at all. The status is 200 if this content was published already."""
    from learndock.spec.spec import canonical

    done = service.add(
        who,
        canonical(asked.manifest),
        private=asked.private,
        after=asked.after,
        supersedes=asked.supersedes,
        card=asked.card,
    )
    response.status_code = 201 if done.new else 200
    return LearnwareSchema.of(done.record, private=done.private)


@router.post(
    "/learnwares/inline",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def publish_inline(request: Request, who: Writer, service: ServiceOf, response: Response) -> LearnwareSchema:
    """Publish a learnware whose small files come in this request, completely or not at all.

    The body is a line of JSON, `{"manifest": ..., "private": false, "files": [PATH, ...]}`, and after it the bytes of
    those files, in that order, without anything between them; the manifest says how long each is. Files that are not
    listed must be uploaded before. At most 8 MiB in all. The status is 200 if this content was published already.
    """
    source = await bodies.read_all(request, service.settings, limit=LARGE)
    done = await run_in_threadpool(_publish_inline, service, who, source)
    response.status_code = 201 if done.new else 200
    return LearnwareSchema.of(done.record, private=done.private)


@router.get("/learnwares/{owner}/{name}", response_model=LearnwareWithManifest)
async def get_learnware(
    owner: Owner, name: Name, who: Anyone, service: ServiceOf, digest: Digest = None, version: Reference = None
) -> Response:
    """Return one learnware, or one version of it, with its manifest."""
    which = _which(owner, name, version or digest)
    try:
        if "@" in which:
            raise NotFound("the snapshot has the latest versions only")
        record = await asked(service, service.catalogue.record, who, which)
    except NotFound:  # ... and the present names only
        record = await run_in_threadpool(service.catalogue.current, who, which)
    return Response(_with_manifest(service, record), media_type=JSON)


@router.get("/learnwares/{owner}/{name}/versions", response_model=Versions)
def list_versions(owner: Owner, name: Name, who: Anyone, service: ServiceOf) -> Response:
    """List the published versions of a learnware with their manifests, and the commits that have their files."""
    records = service.versions.all(who, f"{owner}/{name}")
    try:
        repository = service.repositories.get(who, records[0].name)
        found = [(c.digest, c.id) for c in service.repositories.commits(repository, limit=1000)]
    except NotFound:  # added to the folder by hand
        found = []
    rows = []
    for record in records:
        commits = json.dumps([commit for digest, commit in found if digest == record.digest])
        rows.append(f'{_with_manifest(service, record)[:-1]},"commits":{commits}}}')
    return Response(f'{{"versions":[{",".join(rows)}]}}', media_type=JSON)


@router.delete("/learnwares/{owner}/{name}/versions/{version}")
def remove_version(owner: Owner, name: Name, version: Version, who: Writer, service: ServiceOf) -> RemovedSchema:
    """Remove one version and its commits; its number is never given again. With the last version the name goes."""
    done = service.versions.remove(who, f"{owner}/{name}@{version}")
    # What is removed is shown to its owner, as it was
    return RemovedSchema(
        removed=_schema(service, done.record), remaining=[_schema(service, record) for record in done.remaining]
    )


@router.get("/learnwares/{owner}/{name}/card")
def get_card(owner: Owner, name: Name, who: Anyone, service: ServiceOf) -> CardSchema:
    """Return the present card."""
    return CardSchema(card=service.versions.card(who, f"{owner}/{name}"))


@router.patch("/learnwares/{owner}/{name}")
@with_limit(LARGE)
def edit_card(owner: Owner, name: Name, asked: Editing, who: Writer, service: ServiceOf) -> LearnwareSchema:
    """Edit the card. No version changes; earlier cards stay in the history of the repository."""
    edit = Edit(asked.card, asked.license, asked.description, tuple(asked.tags), tuple(asked.untag))
    return _schema(service, service.versions.edit(who, f"{owner}/{name}", edit))


@router.put("/learnwares/{owner}/{name}/deprecation")
def deprecate(owner: Owner, name: Name, asked: Deprecating, who: Writer, service: ServiceOf) -> LearnwareSchema:
    """Say that a learnware should not be used any more. Those who find or get it are told."""
    done = service.versions.deprecate(who, f"{owner}/{name}", use=asked.use, because=asked.because)
    return _schema(service, done)


@router.delete("/learnwares/{owner}/{name}/deprecation")
def undo_deprecation(owner: Owner, name: Name, who: Writer, service: ServiceOf) -> LearnwareSchema:
    """Take a deprecation back."""
    return _schema(service, service.versions.deprecate(who, f"{owner}/{name}", undo=True))


@router.put("/learnwares/{owner}/{name}/tags/{tag}")
def set_tag(owner: Owner, name: Name, tag: Tag, asked: Tagging, who: Writer, service: ServiceOf) -> LearnwareSchema:
    """Tag a version; a tag that another version has moves, also `latest`, which is what the name alone means."""
    return _schema(service, service.versions.tag(who, f"{owner}/{name}@{asked.version}", tag))


@router.delete("/learnwares/{owner}/{name}/tags/{tag}")
def remove_tag(owner: Owner, name: Name, tag: Tag, who: Writer, service: ServiceOf) -> LearnwareSchema:
    """Remove a tag, and return the version that had it."""
    return _schema(service, service.versions.untag(who, f"{owner}/{name}", tag))


@router.delete("/learnwares/{owner}/{name}", status_code=204)
def remove(owner: Owner, name: Name, who: Writer, service: ServiceOf) -> None:
    """Delete a learnware and its repository; a later one of that name is the next version."""
    service.delete(who, f"{owner}/{name}")


@router.get("/learnwares/{owner}/{name}/files/{path:path}", response_class=Response)
async def get_file(
    owner: Owner,
    name: Name,
    path: Annotated[str, Path(min_length=1, max_length=512)],
    request: Request,
    who: Anyone,
    service: ServiceOf,
    digest: Digest = None,
) -> Response:
    """Download one file; Range is supported."""
    # Bytes are handed out to those who may have them now, not to those who might a moment ago.
    sha256, size = await run_in_threadpool(_file, service, who, _which(owner, name, digest), path)
    return await blob_response(request, service.storage.blobs, sha256, size, etag=sha256)


@router.get("/learnwares/{owner}/{name}/specs/{space_id}", response_class=Response)
async def get_spec(
    owner: Owner,
    name: Name,
    space_id: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")],
    request: Request,
    who: Anyone,
    service: ServiceOf,
    digest: Digest = None,
) -> Response:
    """Download the specification of a learnware in one space, as a spec file."""
    sha256, size = await run_in_threadpool(_spec, service, who, _which(owner, name, digest), space_id)
    return await blob_response(request, service.storage.blobs, sha256, size, etag=sha256)


def _publish_inline(service: Service, who: Principal, source: bytes) -> Published:
    from learndock.spec.spec import canonical

    line, _, rest = source.partition(b"\n")
    try:
        said = InlineSubmission.model_validate(read_json(line))
    except ValidationError as error:
        raise UsageError(
            f"its first line is not a submission ({error.errors()[0]['msg']})",
            remedy='begin with a line of JSON: {"manifest": ..., "files": [...]}',
        ) from None
    manifest = canonical(said.manifest)
    sizes = {file.path: file.size for file in Manifest.from_bytes(manifest).files}
    sent: dict[str, memoryview] = {}
    left = memoryview(rest)
    for path in said.files:
        if path not in sizes or path in sent or sizes[path] > len(left):
            raise UsageError("not in the manifest, named twice, or cut off", remedy="send it again", about=path[:200])
        sent[path], left = left[: sizes[path]], left[sizes[path] :]
    if len(left):
        raise UsageError(f"{len(left)} bytes more than the files have", remedy="send it again")
    return service.add(
        who,
        manifest,
        private=said.private,
        after=said.after,
        supersedes=said.supersedes,
        card=said.card,
        sent=sent,
    )


async def asked(service: Service, question: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """Return the catalogue's answer: at once if it is in memory, else from a thread."""
    if not service.catalogue.fresh:
        return await run_in_threadpool(question, *values, **named)
    if service.catalogue.due:
        # The answer does not wait for the check whether another process has changed something.
        asyncio.get_running_loop().run_in_executor(None, service.catalogue.look)
    return question(*values, **named)


def _chosen(records: list[Record], filters: Filters, text: str) -> list[Record]:
    return [r for r in records if r.passes(filters) and has_words(r, text)]


def json_response(answer: BaseSchema) -> Response:
    """Return a valid answer as JSON. FastAPI would validate it a second time, which doubles the time."""
    return Response(answer.model_dump_json(), media_type=JSON)


def _schema(service: Service, record: Record) -> LearnwareSchema:
    return LearnwareSchema.of(record, private=service.catalogue.is_private(record.name))


def _with_manifest(service: Service, record: Record) -> str:
    """Return the JSON of a ``LearnwareWithManifest``; validating the manifest again would take five times as long."""
    return f'{_schema(service, record).model_dump_json()[:-1]},"manifest":{record.manifest.model_dump_json()}}}'


def _which(owner: str, name: str, digest: str | None) -> str:
    return f"{owner}/{name}" + (f"@{digest}" if digest else "")


def _file(service: Service, who: Any, which: str, path: str) -> tuple[str, int]:
    return _listed(service.catalogue.current(who, which).manifest, which, path)


def _listed(manifest: Manifest, which: str, path: str) -> tuple[str, int]:
    for file in manifest.files:
        if file.path == path:
            return file.sha256, file.size
    more = f"; {MANIFEST} is the learnware's own answer" if path == MANIFEST else "; its manifest lists what there is"
    raise NotFound(f"no file {path[:200]}{more}", about=which)


def _spec(service: Service, who: Any, which: str, space_id: str) -> tuple[str, int]:
    manifest = service.catalogue.current(who, which).manifest
    for entry in manifest.specs:
        if entry.space_id == space_id:
            return _listed(manifest, which, entry.path)
    raise NotFound(f"no spec of the space {space_id[:12]}", remedy="its manifest lists what there is", about=which)
