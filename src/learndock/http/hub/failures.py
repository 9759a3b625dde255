"""How a request of a hub client fails: our error shape, and the headers by which these clients tell errors apart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Literal

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from learndock.errors import LearndockError, NotFound, http_status
from learndock.http import errors

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


class HubRoute(APIRoute):
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
                    raise  # told in the log, and in the one way that tells nothing inside
                return _answer(found, error)

        return handle


def _answer(found: LearndockError, error: Exception) -> Response:
    told = found.changed() if isinstance(found, Missing) else found
    answer = errors.response(told)
    if isinstance(error, HTTPException):
        answer.status_code = error.status_code
    # A header is one line of plain letters; the body has the message as it is.
    line = " ".join(str(told).split())[:1000]
    answer.headers["X-Error-Message"] = "".join(c if " " <= c <= "~" else "?" for c in line)
    if isinstance(found, Missing):
        answer.headers["X-Error-Code"] = found.code
        if found.commit:
            # With it clients remember that this commit has no such file.
            answer.headers["X-Repo-Commit"] = found.commit
    return answer
