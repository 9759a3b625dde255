"""Uploads: resumable, hashed as they arrive."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.concurrency import run_in_threadpool

from learndock.http import bodies
from learndock.http.principal import ServiceOf, Writer
from learndock.http.routes import PREFIX
from learndock.http.schemas import FAILURES, Shape, UploadBegin, UploadShape

router = APIRouter(prefix=PREFIX, tags=["uploads"], responses=FAILURES)
#: What an upload was announced with is its limit, not the one of requests.
ANY = 1 << 62
UploadId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


class Unfinished(Shape):
    """Uploads of yours that came in one stream and not to their end, the one that got furthest first."""

    uploads: list[UploadShape]


@router.get("/uploads")
async def find_uploads(
    who: Writer,
    service: ServiceOf,
    sha256: Annotated[str, Query(pattern=r"^[0-9a-f]{64}$")],
    size: Annotated[int, Query(ge=0, le=1 << 62)],
) -> Unfinished:
    """What of a file is on its way here already: an upload that broke off goes on."""
    found = await run_in_threadpool(service.uploads.unfinished, who, sha256, size)
    return Unfinished(uploads=[UploadShape.of(u) for u in found if u.part_size is None])


@router.post("/uploads", status_code=201)
async def begin_upload(asked: UploadBegin, who: Writer, service: ServiceOf) -> UploadShape:
    """Announce a file by its SHA-256 and size. Where you have it here already, it is stored at once."""
    found = await run_in_threadpool(service.uploads.begin, who, asked.sha256, asked.size, part_size=asked.part_size)
    return UploadShape.of(found)


@router.get("/uploads/{upload}")
async def get_upload(upload: UploadId, who: Writer, service: ServiceOf) -> UploadShape:
    """Where an upload goes on."""
    return UploadShape.of(await run_in_threadpool(service.uploads.find, who, upload))


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
    upload_offset: Annotated[int, Header(ge=0, le=1 << 62, description="Where these bytes belong.")],
) -> UploadShape:
    """Send the bytes from the offset on. What arrives stays, also where the connection breaks off."""
    found = await run_in_threadpool(service.uploads.find, who, upload)
    taking = service.uploads.receive(who, found, offset=upload_offset)
    receiver = await run_in_threadpool(taking.__enter__)
    try:
        await bodies.receive(request, service.settings, receiver)
    finally:
        await run_in_threadpool(taking.__exit__, None, None, None)
    return UploadShape.of(await run_in_threadpool(service.uploads.finish, who, found))


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
) -> UploadShape:
    """Send one numbered part, whole."""
    found = await run_in_threadpool(service.uploads.find, who, upload)
    taking = service.uploads.receive_part(who, found, number)
    receiver = await run_in_threadpool(taking.__enter__)
    try:
        await bodies.receive(request, service.settings, receiver)
    except BaseException as error:
        await run_in_threadpool(taking.__exit__, type(error), error, error.__traceback__)
        raise
    await run_in_threadpool(taking.__exit__, None, None, None)
    return UploadShape.of(await run_in_threadpool(service.uploads.find, who, upload))


@router.post("/uploads/{upload}/complete")
async def complete_upload(upload: UploadId, who: Writer, service: ServiceOf) -> UploadShape:
    """Store an upload whose parts are all there."""
    found = await run_in_threadpool(service.uploads.find, who, upload)
    return UploadShape.of(await run_in_threadpool(service.uploads.complete, who, found))


@router.delete("/uploads/{upload}", status_code=204)
async def cancel_upload(upload: UploadId, who: Writer, service: ServiceOf) -> None:
    """Forget an upload and its bytes."""
    await run_in_threadpool(service.uploads.cancel, who, upload)
