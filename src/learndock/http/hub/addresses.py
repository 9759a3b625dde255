"""Addresses for clients: the service's own, and signed ones that work for a limited time without a token.

A signature is for one upload or part, one token and a time limit. It stops working when its token expires or is
revoked.
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
    """Return the address at which this client reaches the service."""
    return settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")


def signed(service: Service, who: Principal, upload: Upload, *, part: int | None, root: str) -> str:
    """Return a signed address for the bytes of an upload, for a part (from 1), or for its completion (0)."""
    expires = int(min(upload.expires, time.time() + SECONDS + upload.size / BYTES_A_SECOND))
    number = "" if part is None else str(part)
    query = {"token": who.token, "expires": expires, "part": number}
    query["signature"] = _signature(service, upload.id, number, str(who.token), str(expires))
    return f"{root}/api/lfs/{upload.id}?{urlencode(query)}"


def bearer(service: Service, upload: str, *, part: str, token: str, expires: str, signature: str) -> Principal:
    """Return the user for whom an address was signed.

    Raises:
        Forbidden: the signature is wrong or has expired.
        Unauthorized: its token expired or was revoked.
    """
    wanted = _signature(service, upload, part, token, expires)
    if not hmac.compare_digest(wanted.encode(), signature.encode()) or float(expires) < time.time():
        raise Forbidden(
            "the signature of this address is wrong or has expired", remedy="request another with an LFS batch"
        )
    return service.people.principal_of(int(token))


def _signature(service: Service, upload: str, part: str, token: str, expires: str) -> str:
    text = "\n".join(("learndock lfs", upload, part, token, expires))
    return hmac.new(service.signing_key, text.encode(), hashlib.sha256).hexdigest()
