"""Addresses that are handed out: where this service is, and signed ones that work for a while without a token.

A signature holds for one upload, one part of it, one token and until a time. Whose token was ended since, or expired,
cannot use it any more.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import urlencode

from fastapi import Request

from learndock.errors import Forbidden
from learndock.service.principal import Principal
from learndock.service.service import Service
from learndock.service.uploads import Upload
from learndock.settings import Settings

#: Seconds that an address works: so many, and one for each of these bytes.
SECONDS, BYTES_A_SECOND = 900.0, 1_000_000


def base(request: Request, settings: Settings) -> str:
    """Where the service is, as this client reaches it."""
    return settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")


def signed(service: Service, who: Principal, upload: Upload, *, part: int | None, root: str) -> str:
    """An address for the bytes of an upload, of a part of it (counted from 1), or (0) for its completion."""
    expires = int(min(upload.expires, time.time() + SECONDS + upload.size / BYTES_A_SECOND))
    number = "" if part is None else str(part)
    query = {"token": who.token, "expires": expires, "part": number}
    query["signature"] = _signature(service, upload.id, number, str(who.token), str(expires))
    return f"{root}/api/lfs/{upload.id}?{urlencode(query)}"


def bearer(service: Service, upload: str, *, part: str, token: str, expires: str, signature: str) -> Principal:
    """The one for whom an address was signed.

    Raises:
        Forbidden: it was not signed here, or its time is over.
        Unauthorized: the token for which it was signed holds no more.
    """
    wanted = _signature(service, upload, part, token, expires)
    if not hmac.compare_digest(wanted.encode(), signature.encode()) or float(expires) < time.time():
        raise Forbidden(
            "this address was not signed here, or its time is over", remedy="ask for another with an LFS batch"
        )
    return service.people.principal_of(int(token))


def _signature(service: Service, upload: str, part: str, token: str, expires: str) -> str:
    text = "\n".join(("learndock lfs", upload, part, token, expires))
    return hmac.new(service.signing_key, text.encode(), hashlib.sha256).hexdigest()
