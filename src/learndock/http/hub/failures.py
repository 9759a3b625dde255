"""How a request of a hub client fails: the headers by which these clients tell errors apart, and a body they show.

    {"error": "what happened; what to try", "code": "not_found", "message": ..., "remedy": ...}

The clients print ``error`` as it is, so it is one line of text here; our own fields are beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Literal

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from learndock.errors import LearndockError, NotFound, http_status
from learndock.http import errors
from learndock.http.door import DoorRoute

Code = Literal["RepoNotFound", "RevisionNotFound", "EntryNotFound"]


class Missing(NotFound):
    """Something is missing; ``code`` says which kind of thing, ``commit`` in which commit."""

    def __init__(self, message: str, code: Code, commit: str = "", *, remedy: str = "", about: object = "") -> None:
        super().__init__(message, remedy=remedy, about=about)
        self.code, self.commit = code, commit

    def changed(self, **fields: Any) -> NotFound:  # type: ignore[override]
        """See ``LearndockError.changed``: outside, it is a ``NotFound`` as any other."""
        return NotFound(**{**self._fields(), **fields})


@contextlib.contextmanager
def missing(code: Code, commit: str = "") -> Iterator[None]:
    """Turn a ``NotFound`` of the block into ``Missing`` of the kind ``code``."""
    try:
        yield
    except Missing:
        raise
    except NotFound as error:
        raise Missing(error.message, code, commit, remedy=error.remedy, about=error.about) from None


class HubRoute(DoorRoute):
    """A route whose errors have the headers X-Error-Code and X-Error-Message."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except (LearndockError, RequestValidationError, HTTPException) as error:
                found = errors.translate(error)
                if http_status(found) >= 500:
                    raise  # logged, and answered in the one way that reveals nothing inside
                return _answer(found, error)

        return handle


def body_of(error: LearndockError) -> dict[str, Any]:
    """Return the JSON of an error in the form of these clients, with our own fields beside it."""
    fields = errors.body_of(error)["error"]
    return {"error": f"{fields['message']}; {fields['remedy']}", **fields}


def header_text(text: str) -> str:
    """Return ``text`` as one line of plain letters, as a header holds it."""
    return "".join(c if " " <= c <= "~" else "?" for c in " ".join(text.split())[:1000])


def _answer(found: LearndockError, error: Exception) -> Response:
    shown = found.changed() if isinstance(found, Missing) else found
    plain = errors.response(shown)
    body = body_of(shown)
    answer = JSONResponse(body, plain.status_code)
    answer.headers.update({k: v for k, v in plain.headers.items() if k not in ("content-length", "content-type")})
    if isinstance(error, HTTPException):
        answer.status_code = error.status_code
    answer.headers["X-Error-Message"] = header_text(body["error"])
    if isinstance(found, Missing):
        answer.headers["X-Error-Code"] = found.code
        if found.commit:
            # With it clients remember that this commit has no such file.
            answer.headers["X-Repo-Commit"] = found.commit
    return answer
