"""Uploads: resumable, hashed as they arrive."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.concurrency import run_in_threadpool

from learndock.http import bodies
from learndock.http.door import DoorRoute
from learndock.http.principal import ServiceOf, Writer
from learndock.http.routes import PREFIX
from learndock.http.schemas import FAILURES, BaseSchema, UploadBegin, UploadSchema
from learndock.http.threads import in_threads

router = APIRouter(prefix=PREFIX, route_class=DoorRoute, tags=["uploads"], responses=FAILURES)
#: The announced size is the limit of an upload; the limit of requests does not apply.
ANY = 1 << 62
UploadId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


class Unfinished(BaseSchema):
    """Your unfinished uploads in one stream, the one with most bytes first."""

    uploads: list[UploadSchema]


@router.get("/uploads")
async def find_uploads(
    who: Writer,
    service: ServiceOf,
    sha256: Annotated[str, Query(pattern=r"^[0-9a-f]{64}$")],
    size: Annotated[int, Query(ge=0, le=1 << 62)],
) -> Unfinished:
    """List your unfinished uploads of a file; each can be continued at its offset."""
    found = await run_in_threadpool(service.uploads.unfinished, who, sha256, size)
    return Unfinished(uploads=[UploadSchema.of(u) for u in found if u.part_size is None])


@router.post("/uploads", status_code=201)
async def begin_upload(
    asked: UploadBegin,
    who: Writer,
    service: ServiceOf,
    name: Annotated[
        str | None, Query(max_length=200, description="What it is for, `owner/name`: refused if you may not change it.")
    ] = None,
) -> UploadSchema:
    """Announce a file by its SHA-256 and size. If you have it here already, it is stored at once."""
    if name is not None:
        await run_in_threadpool(service.repositories.check_owner, who, name)
    found = await run_in_threadpool(service.uploads.begin, who, asked.sha256, asked.size, part_size=asked.part_size)
    return UploadSchema.of(found)


@router.get("/uploads/{upload}")
async def get_upload(upload: UploadId, who: Writer, service: ServiceOf) -> UploadSchema:
    """Return an upload with the offset at which it continues."""
    return UploadSchema.of(await run_in_threadpool(service.uploads.find, who, upload))


@router.patch(
    "/uploads/{upload}",
    max_body_size=ANY,
    openapi_extra={
        "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
    },
)
async def send_bytes(
    upload: UploadId,
    request: Request,
    who: Writer,
    service: ServiceOf,
    upload_offset: Annotated[int, Header(ge=0, le=1 << 62, description="Offset of the first byte of the body.")],
) -> UploadSchema:
    """Send the bytes from the offset on. Bytes that arrive are kept when the connection breaks."""
    found = await run_in_threadpool(service.uploads.find, who, upload)
    async with in_threads(service.uploads.receive(who, found, offset=upload_offset)) as receiver:
        await bodies.receive(request, service.settings, receiver)
    return UploadSchema.of(await run_in_threadpool(service.uploads.finish, who, found))


@router.put(
    "/uploads/{upload}/parts/{number}",
    max_body_size=ANY,
    openapi_extra={
        "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
    },
)
async def send_part(
    upload: UploadId,
    number: Annotated[int, Path(ge=1, le=100_000)],
    request: Request,
    who: Writer,
    service: ServiceOf,
) -> UploadSchema:
    """Send one complete part."""
    found = await run_in_threadpool(service.uploads.find, who, upload)
    async with in_threads(service.uploads.receive_part(who, found, number)) as receiver:
        await bodies.receive(request, service.settings, receiver)
    return UploadSchema.of(await run_in_threadpool(service.uploads.find, who, upload))


@router.post("/uploads/{upload}/complete")
async def complete_upload(upload: UploadId, who: Writer, service: ServiceOf) -> UploadSchema:
    """Store an upload after its last part."""
    found = await run_in_threadpool(service.uploads.find, who, upload)
    return UploadSchema.of(await run_in_threadpool(service.uploads.complete, who, found))


@router.delete("/uploads/{upload}", status_code=204)
async def cancel_upload(upload: UploadId, who: Writer, service: ServiceOf) -> None:
    """Delete an upload and its bytes."""
    await run_in_threadpool(service.uploads.cancel, who, upload)
