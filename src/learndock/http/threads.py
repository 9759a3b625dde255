"""Blocking context managers in asynchronous code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import TypeVar

import anyio
from fastapi.concurrency import run_in_threadpool

T = TypeVar("T")


@contextlib.asynccontextmanager
async def in_threads(blocking: contextlib.AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave ``blocking`` in threads of the pool; its ``__exit__`` sees the error that ends the block.

    Leaving is shielded from cancellation: a lock must be released even if the client has gone.
    """
    value = await run_in_threadpool(blocking.__enter__)
    try:
        yield value
    except BaseException:
        with anyio.CancelScope(shield=True):
            swallowed = await run_in_threadpool(blocking.__exit__, *sys.exc_info())
        if not swallowed:
            raise
    else:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(blocking.__exit__, None, None, None)
