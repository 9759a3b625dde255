"""The body of a commit: a line of JSON for each change, files among them in base64.

Such a line can have 70 MB, so the body is spooled to an unnamed file and never held in memory: of a line with a file,
everything but the base64 is parsed as JSON, and the base64 is decoded in pieces.
"""

from __future__ import annotations

import binascii
import contextlib
import mmap
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from learndock.errors import TooLarge, UsageError
from learndock.files import storage_errors
from learndock.http.json_bodies import read_json

#: What a line may have without its base64.
MAX_LINE = 1 << 20
#: Base64 that is decoded at once, a multiple of 4.
PIECE = 1 << 20
_CONTENT = re.compile(rb'"content"\s*:\s*"([A-Za-z0-9+/]*={0,2})"')


@dataclass(frozen=True)
class Line:
    """One change: its key, its value, and for a file the number of its bytes and how to read them."""

    key: str
    value: dict[str, Any]
    size: int = 0
    pieces: Callable[[], Iterator[bytes]] = lambda: iter(())


class Spool:
    """Spools a body of at most ``limit`` bytes; a context manager that deletes the file at its end."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._where, self._limit, self._size = folder, limit, 0
        with storage_errors(folder):
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next bytes.

        Raises:
            TooLarge: more than the limit.
            StorageFull: no room.
        """
        self._size += len(piece)
        if self._size > self._limit:
            raise TooLarge(f"a commit of more than {self._limit} bytes", remedy="commit fewer files at once")
        with storage_errors(self._where):
            self._file.write(piece)

    @contextlib.contextmanager
    def lines(self, *, limit: int) -> Iterator[Iterator[Line]]:
        """Yield the lines, at most ``limit``; to be read inside the block.

        Raises:
            UsageError: a line is not what this protocol says.
        """
        with storage_errors(self._where):
            self._file.flush()
        if not self._size:
            raise UsageError("an empty commit", remedy="send a header and changes as lines of JSON")
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as body:
            yield _lines(body, limit)


def _lines(body: mmap.mmap, limit: int) -> Iterator[Line]:
    begin = count = 0
    while begin < len(body):
        end = body.find(b"\n", begin)
        end = len(body) if end < 0 else end
        if end > begin and not body[begin : min(end, begin + 64)].isspace():
            count += 1
            if count > limit:
                raise TooLarge(f"a commit of more than {limit} lines", remedy="commit fewer files at once")
            yield _line(body, begin, end, count)
        begin = end + 1


def _line(body: mmap.mmap, begin: int, end: int, number: int) -> Line:
    found = _CONTENT.search(body, begin, end)
    content = (end, end) if found is None else found.span(1)
    if end - begin - (content[1] - content[0]) > MAX_LINE:
        raise UsageError(f"line {number}: too long, or its content is not base64", remedy="send files as base64")
    try:
        parsed = read_json(body[begin : content[0]] + body[content[1] : end], about=f"line {number}")
        key, value = parsed["key"], parsed["value"]
        if not isinstance(key, str) or not isinstance(value, dict):
            raise TypeError
    except (KeyError, TypeError):
        raise UsageError(f'line {number}: is not of the form {{"key": ..., "value": {{...}}}}') from None
    if key != "file":
        return Line(key, value)
    if found is None or value.get("encoding", "base64") != "base64" or value.get("content") != "":
        raise UsageError(f"line {number}: a file without content in base64")
    length = content[1] - content[0]
    if length % 4:
        raise UsageError(f"line {number}: its base64 is cut off")
    padding = body[max(content[0], content[1] - 2) : content[1]].count(b"=")
    return Line(key, value, length // 4 * 3 - padding, lambda: _decoded(body, *content, number))


def _decoded(body: mmap.mmap, begin: int, end: int, number: int) -> Iterator[bytes]:
    for start in range(begin, end, PIECE):
        try:
            yield binascii.a2b_base64(body[start : min(start + PIECE, end)], strict_mode=True)
        except binascii.Error:
            raise UsageError(f"line {number}: its content is not base64") from None
