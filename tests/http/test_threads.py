"""Blocking context managers in asynchronous code: their end always runs, and knows how the block ended."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest

from learndock.http.threads import in_threads


@contextlib.contextmanager
def recorded(seen: list[object], *, swallow: bool = False) -> Iterator[int]:
    seen.append(threading.get_ident())
    try:
        yield 7
    except BaseException as error:
        seen.append(type(error))
        if not swallow:
            raise
    else:
        seen.append("ended")


def test_it_runs_in_another_thread_and_gives_the_value() -> None:
    seen: list[object] = []

    async def use() -> int:
        async with in_threads(recorded(seen)) as value:
            return value

    assert asyncio.run(use()) == 7
    assert (seen[0] != threading.get_ident(), seen[1]) == (True, "ended")


def test_its_end_sees_the_error_of_the_block() -> None:
    seen: list[object] = []

    async def use() -> None:
        async with in_threads(recorded(seen)):
            raise ValueError("of the block")

    with pytest.raises(ValueError, match="of the block"):
        asyncio.run(use())
    assert seen[1] is ValueError


def test_an_error_that_it_handles_is_over() -> None:
    seen: list[object] = []

    async def use() -> None:
        async with in_threads(recorded(seen, swallow=True)):
            raise ValueError

    asyncio.run(use())
    assert seen[1] is ValueError


def test_its_end_runs_where_the_block_is_cancelled() -> None:
    seen: list[object] = []

    async def use() -> None:
        async with in_threads(recorded(seen)):
            await asyncio.sleep(60)

    async def cancelled() -> None:
        task = asyncio.create_task(use())
        while not seen:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert seen[1] is asyncio.CancelledError
