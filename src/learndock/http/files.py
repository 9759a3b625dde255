"""Send stored bytes, all or a range, in pieces that are large enough to be fast."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import IO

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from learndock.dock.storage.blobs import BlobStore

PIECE = 1 << 20
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def blob_response(
    request: Request, store: BlobStore, sha256: str, size: int, *, etag: str, headers: dict[str, str] | None = None
) -> Response:
    """Return the bytes of a blob, or the part that a Range header asks for.

    Raises:
        NotFound: there is no such blob.
    """
    known = {"ETag": f'"{etag}"', "Accept-Ranges": "bytes", **(headers or {})}
    known.setdefault("Content-Type", "application/octet-stream")
    known["X-Content-Type-Options"] = "nosniff"
    if request.headers.get("if-none-match") == known["ETag"]:
        return Response(status_code=304, headers=known)
    begin, end, status = _asked(request, known["ETag"], size)
    if not size and "range" in request.headers and status == 200:
        known["Content-Range"] = "bytes */0"  # hub clients in Rust learn the size by asking for the first byte
    if status == 416:
        return Response(status_code=416, headers={**known, "Content-Range": f"bytes */{size}"})
    if status == 206:
        known["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    known["Content-Length"] = str(end - begin)
    if request.method == "HEAD" or end == begin:
        return Response(status_code=status, headers=known)
    stream = await run_in_threadpool(store.open, sha256)
    return StreamingResponse(_pieces(stream, begin, end), status_code=status, headers=known)


def _asked(request: Request, etag: str, size: int) -> tuple[int, int, int]:
    """Return (begin, end, status) of the requested bytes."""
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or request.headers.get("if-range", etag) != etag or not (found[1] or found[2]):
        return 0, size, 200
    if not size and not int(found[1] or 0):  # of no bytes, the first are all
        return 0, 0, 200
    if not found[1]:
        begin, end = max(0, size - int(found[2])), size
    else:
        begin, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
    return (begin, end, 206) if begin < end else (0, 0, 416)


async def _pieces(stream: IO[bytes], begin: int, end: int) -> AsyncIterator[bytes]:
    with stream:
        await run_in_threadpool(stream.seek, begin)
        left = end - begin
        while left:
            piece = await run_in_threadpool(stream.read, min(PIECE, left))
            if not piece:
                return  # shorter than it should be: the connection ends before its length, and the client notices
            left -= len(piece)
            yield piece
