"""Large files in Xet's chunks, as clients from 1.20 on send them: a token and an address, xorbs, and a shard.

    GET  /api/models/OWNER/NAME/xet-write-token/main   where to send, and a token for it
    POST /api/xet/SPACE/v1/xorbs/default/HASH          chunks; kept until the file is stored
    POST /api/xet/SPACE/v2/shards (or v1, or none)     the files; each is stored under its SHA-256
    GET  /api/xet/SPACE/v1/chunks/...                  "not here", whatever others have sent

The token is for one repository, may only send there, and works for a limited time. Downloads need none of this.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse

from learndock.errors import (
    LearndockError,
    QuotaExceeded,
    TooManyRequests,
    Unauthorized,
    UsageError,
    http_status,
)
from learndock.http import bodies, errors
from learndock.http.hub import addresses
from learndock.http.hub.download import Name, Owner, Rest
from learndock.http.hub.failures import HubRoute, missing
from learndock.http.limits import client_of
from learndock.http.principal import Reader, ServiceOf, Writer
from learndock.http.threads import in_threads
from learndock.service.principal import Principal
from learndock.service.receiver import Receiver
from learndock.service.service import Service
from learndock.service.xet_format import MAX_SHARD, MAX_XORB

router = APIRouter(route_class=HubRoute, include_in_schema=False)
#: Seconds that a token works; clients ask for the next one by themselves.
TOKEN_SECONDS = 1800
#: Seconds between two signs of life while a shard's files are stored, and before one is too late.
SIGN_SECONDS = 10.0
#: Seconds that a xorb waits while its owner sends as many as the service allows.
WAIT_SECONDS = 60.0
#: Hours that a shard waits while its client is given signs of life.
WAIT_HOURS = 2.0
WHY = "your-quota-is-used-up-delete-something-or-ask-the-operator-for-a-larger-one"
_TOKEN = re.compile(r"xet\.(\d{1,18})\.(\d{1,12})\.([A-Za-z0-9_-]{1,400})\.([0-9a-f]{64})")

Space = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]
Hash = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.get("/api/models/{owner}/{name}/xet-write-token/{revision:path}")
def write_token(
    owner: Owner, name: Name, revision: Rest, request: Request, who: Writer, service: ServiceOf
) -> Response:
    """Return an address and a token for the chunks of files of this repository."""
    with missing("RepoNotFound"):
        found = service.repositories.get(who, f"{owner}/{name}", write=True)
    expires = int(time.time()) + TOKEN_SECONDS
    token = _signed(service, who, found.name, expires)
    url = f"{addresses.base(request, service.settings)}/api/xet/{service.xet.xorbs.space(who)}"
    # Newer clients read the body, older ones the headers.
    return JSONResponse(
        {"accessToken": token, "exp": expires, "casUrl": url},
        headers={
            "X-Xet-Cas-Url": url,
            "X-Xet-Access-Token": token,
            "X-Xet-Token-Expiration": str(expires),
            "Cache-Control": "no-store",
        },
    )


@router.get("/api/models/{owner}/{name}/xet-read-token/{revision:path}")
def read_token(owner: Owner, name: Name, revision: Rest, who: Reader, service: ServiceOf) -> Response:
    """Say that files are downloaded as they are."""
    with missing("RepoNotFound"):
        service.repositories.get(who, f"{owner}/{name}")
    raise UsageError(
        "this dock has no chunks to read", remedy=f"files are downloaded from /{owner}/{name}/resolve/main/"
    )


async def sender(request: Request, service: ServiceOf) -> Principal:
    """Return the user whose token for chunks came with the request.

    Raises:
        Unauthorized: it is not one, has expired, or the token that it was made with was revoked.
        NotFound: its repository is not there any more.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("this needs a token of xet-write-token", remedy="upload with a client of the hub")
    client, verified = client_of(request.scope), request.app.state.verified
    try:
        found = await run_in_threadpool(_sender, service, token)
    except LearndockError:
        verified.discard(client)
        raise
    verified.add(client)  # from now on its requests count for this token, not for its address
    request.scope["learndock.who"] = found.name
    return found


Sender = Annotated[Principal, Depends(sender)]


@router.post("/api/xet/{space}/v1/xorbs/default/{xorb}", max_body_size=MAX_XORB)
async def post_xorb(space: Space, xorb: Hash, request: Request, who: Sender, service: ServiceOf) -> Any:
    """Receive a xorb; one that is here already is not kept again."""
    if await run_in_threadpool(service.xet.xorbs.has, who, xorb):
        # Read to its end: not all clients read an answer that comes before they have sent everything.
        async for _ in bodies.pieces(request, service.settings):
            pass
        return {"was_inserted": False}
    try:
        async with _XORBS.turn(who, own=service.settings.concurrent_uploads, seconds=WAIT_SECONDS):
            receiver = await run_in_threadpool(service.xet.receive, who, xorb)
            async with in_threads(receiver):
                await bodies.receive(request, service.settings, receiver)
                await run_in_threadpool(receiver.keep)
    except QuotaExceeded:
        # These clients show nothing of an answer that is an error but its address: it has to say why.
        return RedirectResponse(f"/api/xet/{space}/refused/{WHY}", 303)
    return {"was_inserted": True}


@router.get("/api/xet/{space}/refused/{why}")
def refused(space: Space, why: str) -> Response:
    """Refuse a xorb at an address that says why."""
    raise QuotaExceeded("your quota is used up", remedy="delete something, or ask the operator for a larger quota")


@router.head("/api/xet/{space}/v1/xorbs/default/{xorb}")
def head_xorb(space: Space, xorb: Hash, who: Sender, service: ServiceOf) -> Response:
    """Say whether ``who`` sent this xorb."""
    return Response(status_code=200 if service.xet.xorbs.has(who, xorb) else 404)


@router.get("/api/xet/{space}/v1/chunks/{prefix}/{chunk}")
def get_chunk(space: Space, prefix: str, chunk: Hash, who: Sender) -> Response:
    """Say that a chunk is not known: an answer about others' chunks would tell what they have."""
    return Response(status_code=404)


@router.post("/api/xet/{space}/shards", max_body_size=MAX_SHARD)
@router.post("/api/xet/{space}/v1/shards", max_body_size=MAX_SHARD)
async def post_shard(space: Space, request: Request, who: Sender, service: ServiceOf) -> dict[str, int]:
    """Store the files of a shard; answer when it is done."""
    path = await _shard(request, who, service)
    await _register(service, who, path, {}, asyncio.Event(), seconds=WAIT_SECONDS)
    return {"result": 1}


@router.post("/api/xet/{space}/v2/shards", max_body_size=MAX_SHARD)
async def post_shard_and_listen(space: Space, request: Request, who: Sender, service: ServiceOf) -> Response:
    """Store the files of a shard; answer with lines while it works, so that the client knows that it does."""
    path = await _shard(request, who, service)
    return StreamingResponse(
        _lines(service, who, path), media_type="application/x-ndjson", headers={"Cache-Control": "no-cache"}
    )


# -- inside -----------------------------------------------------------------------------------------------


async def _shard(request: Request, who: Principal, service: Service) -> FilePath:
    path = await run_in_threadpool(service.xet.shard_file, who)
    try:
        async with in_threads(Receiver(path, offset=0, size=MAX_SHARD, hashes=None)) as receiver:
            await bodies.receive(request, service.settings, receiver)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


async def _register(
    service: Service, who: Principal, path: FilePath, seen: dict[str, int], begun: asyncio.Event, *, seconds: float
) -> None:
    def progress(done: int, of: int) -> None:
        seen["verified"], seen["total"] = done, of

    try:
        # Waiting here and not in a thread, of which there are few: one owner could take all of them.
        async with _SHARDS.turn(who, own=1, seconds=seconds):
            begun.set()
            await run_in_threadpool(service.xet.register, who, path, progress)
    finally:
        path.unlink(missing_ok=True)


async def _lines(service: Service, who: Principal, path: FilePath) -> AsyncIterator[bytes]:
    seen = {"verified": 0, "total": 0}
    begun = asyncio.Event()
    work = asyncio.ensure_future(_register(service, who, path, seen, begun, seconds=WAIT_HOURS * 3600))
    try:
        yield _line(type="validating", **seen)
        while not work.done():
            await asyncio.wait([work], timeout=SIGN_SECONDS)
            if not work.done():
                yield _line(type="validating", **seen)
    finally:
        # A client that is gone keeps no shard waiting on the disk. One that is being stored is stored.
        if not begun.is_set():
            work.cancel()
    try:
        work.result()
    except LearndockError as error:
        status = http_status(error)
        told = json.loads(bytes(errors.response(error, request="").body))["error"]
        yield _line(
            type="error",
            message=f"{told['message']}: {told['remedy']}",
            retryable=status in (409, 429) or status >= 500,
        )
    else:
        yield _line(type="result", result=1)


def _line(**event: Any) -> bytes:
    return json.dumps(event).encode() + b"\n"


class _Turns:
    """Places for what is expensive: ``places`` in all, some per owner."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._running: Counter[int] = Counter()

    @contextlib.asynccontextmanager
    async def turn(self, who: Principal, *, own: int, seconds: float) -> AsyncIterator[None]:
        """Wait for one of the ``own`` places of ``who``.

        Raises:
            TooManyRequests: none became free in ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while self._running[who.id] >= own or self._running.total() >= self._places:
            if time.monotonic() > deadline:
                raise TooManyRequests("too many uploads at once", remedy="wait for one to end, then try again")
            await asyncio.sleep(0.05)
        self._running[who.id] += 1
        try:
            yield
        finally:
            self._running[who.id] -= 1
            if not self._running[who.id]:
                del self._running[who.id]


_XORBS = _Turns(64)
_SHARDS = _Turns(4)


def _signed(service: Service, who: Principal, repository: str, expires: int) -> str:
    name = base64.urlsafe_b64encode(repository.encode()).decode().rstrip("=")
    return f"xet.{who.token}.{expires}.{name}.{_signature(service, str(who.token), str(expires), name)}"


def _sender(service: Service, token: str) -> Principal:
    found = _TOKEN.fullmatch(token)
    if found is None or not hmac.compare_digest(_signature(service, found[1], found[2], found[3]), found[4]):
        raise Unauthorized("this is not a token of xet-write-token", remedy="ask for one")
    if int(found[2]) < time.time():
        raise Unauthorized("this token has expired", remedy="ask for another with xet-write-token")
    who = service.people.principal_of(int(found[1]))
    who.need("write")
    name = base64.urlsafe_b64decode(found[3] + "=" * (-len(found[3]) % 4)).decode()
    service.repositories.get(who, name, write=True)
    return who


def _signature(service: Service, token: str, expires: str, name: str) -> str:
    text = "\n".join(("learndock xet", token, expires, name))
    return hmac.new(service.signing_key, text.encode(), hashlib.sha256).hexdigest()
