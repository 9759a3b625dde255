"""Large files as LFS objects: where to send each, and receiving their bytes."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from learndock.errors import LearndockError, NotFound, UsageError, http_status
from learndock.http import bodies, errors
from learndock.http.door import parsed
from learndock.http.hub import addresses
from learndock.http.hub.download import Name, Owner
from learndock.http.hub.failures import HubRoute, missing
from learndock.http.principal import ServiceOf, Writer
from learndock.http.routes.uploads import ANY, UploadId
from learndock.http.threads import in_threads
from learndock.service.principal import Principal
from learndock.service.service import Service
from learndock.service.uploads import Upload

router = APIRouter(route_class=HubRoute, include_in_schema=False)
#: Larger files come in parts of this many bytes: a part that fails is sent again, not the whole file.
PART = 64 << 20
IN_PARTS_ABOVE = 4 * PART
#: Seconds after which bytes that stopped coming do not come any more.
STALE_SECONDS = 60.0
LFS_JSON = "application/vnd.git-lfs+json"

_Body = TypeVar("_Body", bound=BaseModel)
Text = Annotated[str, Query(max_length=128)]


class _Object(BaseModel):
    oid: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, le=1 << 62)


class _Batch(BaseModel):
    model_config = ConfigDict(extra="ignore")
    operation: str = "upload"
    transfers: list[str] = Field(default_factory=lambda: ["basic"])
    objects: list[_Object] = Field(max_length=1000)


@router.post("/{owner}/{name}.git/info/lfs/objects/batch")
async def batch(owner: Owner, name: Name, request: Request, who: Writer, service: ServiceOf) -> Response:
    """Say where to send each object; one that the client has here already is not sent."""
    asked = await _read(_Batch, request, service, limit=bodies.LARGE)
    if asked.operation != "upload":
        raise UsageError(
            f"operation {asked.operation[:20]!r}", remedy=f"files are downloaded from /{owner}/{name}/resolve/main/"
        )
    root = addresses.base(request, service.settings)
    in_parts = "multipart" in asked.transfers

    def answer() -> dict[str, Any]:
        with missing("RepoNotFound"):
            service.repositories.get(who, f"{owner}/{name}", write=True)
        found = [_place(service, who, o, f"{owner}/{name}", root, in_parts=in_parts) for o in asked.objects]
        parts = any("chunk_size" in o.get("actions", {}).get("upload", {}).get("header", {}) for o in found)
        return {"transfer": "multipart" if parts else "basic", "objects": found}

    return JSONResponse(await run_in_threadpool(answer), media_type=LFS_JSON)


@router.put("/api/lfs/{upload}", max_body_size=ANY)
async def put(
    upload: UploadId,
    request: Request,
    service: ServiceOf,
    token: Text,
    expires: Text,
    signature: Text,
    part: Text = "",
) -> Response:
    """Receive the bytes of an upload or of a part, at a signed address."""
    who, found = await run_in_threadpool(_signed_for, service, upload, part, token, expires, signature)
    if part:
        taking = service.uploads.receive_part(who, found, int(part))
    else:
        # Sent again from its beginning, as this protocol does: what came before does not count.
        await run_in_threadpool(service.uploads.restart, who, found)
        taking = service.uploads.receive(who, found, offset=0)
    async with in_threads(taking) as receiver:
        await bodies.receive(request, service.settings, receiver)
    if not part:
        done = await run_in_threadpool(service.uploads.finish, who, found)
        if not done.stored:
            raise UsageError(f"{done.offset} of {found.size} bytes came", remedy="send them again")
    return Response(status_code=200, headers={"ETag": f'"{receiver.part.hexdigest()}"'})


@router.post("/api/lfs/{upload}")
def complete(
    upload: UploadId, service: ServiceOf, token: Text, expires: Text, signature: Text, part: Text = ""
) -> dict[str, Any]:
    """Store an upload whose parts are all there, at a signed address."""
    who, found = _signed_for(service, upload, part, token, expires, signature)
    if part != "0":
        raise UsageError("this address receives bytes", remedy="send them with PUT")
    service.uploads.complete(who, found)
    return {"success": True}


@router.post("/{owner}/{name}.git/info/lfs/verify")
async def verify(owner: Owner, name: Name, request: Request, who: Writer, service: ServiceOf) -> dict[str, Any]:
    """Check that an object is here, with that many bytes."""
    asked = await _read(_Object, request, service, limit=bodies.SMALL)

    def check() -> None:
        with missing("RepoNotFound"):
            service.repositories.get(who, f"{owner}/{name}", write=True)
        with missing("EntryNotFound"):
            blob = service.holdings.blob(who, asked.oid)
        if blob.size != asked.size:
            raise UsageError(f"{asked.oid[:12]} has {blob.size} bytes here, not {asked.size}", remedy="send it again")

    await run_in_threadpool(check)
    return {"oid": asked.oid, "size": asked.size}


# -- inside -----------------------------------------------------------------------------------------------


async def _read(kind: type[_Body], request: Request, service: Service, *, limit: int) -> _Body:
    """Parse a body whose content type FastAPI does not treat as JSON."""
    source = await bodies.read_all(request, service.settings, limit=limit)
    try:
        return kind.model_validate(await parsed(source))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise UsageError(f"{first['msg']}", remedy="send what an LFS batch has", about=place) from None


def _place(
    service: Service, who: Principal, wanted: _Object, name: str, root: str, *, in_parts: bool
) -> dict[str, Any]:
    """Return what the client should do with one object."""
    found: dict[str, Any] = {"oid": wanted.oid, "size": wanted.size}
    part_size = PART if in_parts and wanted.size > IN_PARTS_ABOVE else None
    try:
        service.uploads.forget_stale(who, wanted.oid, seconds=STALE_SECONDS)
        upload = service.uploads.begin(who, wanted.oid, wanted.size, part_size=part_size)
    except LearndockError as error:
        if http_status(error) >= 500:
            raise
        # Of one object only: the others of the batch may go on.
        return {**found, "error": {"code": http_status(error), "message": str(errors.for_clients(error))}}
    if upload.stored:
        return found
    action: dict[str, Any] = {"href": addresses.signed(service, who, upload, part=None, root=root), "header": {}}
    if part_size is not None:
        action = {
            "href": addresses.signed(service, who, upload, part=0, root=root),
            "header": {"chunk_size": str(part_size)}
            | {
                f"{n:05}": addresses.signed(service, who, upload, part=n, root=root)
                for n in range(1, upload.part_count + 1)
            },
        }
    check = {"href": f"{root}/{name}.git/info/lfs/verify", "header": {}}
    return {**found, "authenticated": True, "actions": {"upload": action, "verify": check}}


def _signed_for(
    service: Service, upload: str, part: str, token: str, expires: str, signature: str
) -> tuple[Principal, Upload]:
    who = addresses.bearer(service, upload, part=part, token=token, expires=expires, signature=signature)
    who.need("write")
    found = service.uploads.find(who, upload)
    if found.stored:
        raise NotFound("these bytes are here already", remedy="commit them", about=upload)
    return who, found
