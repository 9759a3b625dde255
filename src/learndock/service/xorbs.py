"""The xorbs that owners have sent: chunks of files, kept until ``Settings.upload_hours`` after their last use.

    uploads/xet/OWNER/HASH.index   the chunks of a xorb: hash and length of each; in which stored files they are
    uploads/xet/OWNER/HASH.bytes   the chunks' bytes, until all of them are in stored files
    uploads/xet/OWNER/space        a random name, part of the address that clients send to

Clients remember for weeks which xorbs they sent to an address, and do not send them again. So an address changes as
soon as a xorb is no longer here. Nobody sees or uses the xorbs of another owner.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from learndock.errors import QuotaExceeded, UsageError
from learndock.files import atomic_write, storage_errors
from learndock.service.principal import Principal
from learndock.service.xet_format import XorbReader, text_of

_CHUNKS = np.dtype([("digest", "V32"), ("size", "<u4")])
_RUN = struct.Struct("<2I32sQ")
#: Leftovers of killed processes are deleted after so many seconds without a new byte.
_LEFT_SECONDS = 3600.0
#: Chunks that are looked for among those of other xorbs: 6 GB of them.
_MOST_WANTED = 100_000


@dataclass(frozen=True)
class Run:
    """Chunks ``begin`` to ``end`` (exclusive) are in the stored file ``sha256``, from byte ``offset`` on."""

    begin: int
    end: int
    sha256: str
    offset: int


@dataclass
class Xorb:
    """A xorb that is here; chunk i ends at ``ends[i]``. ``content`` is None once all chunks are in stored files."""

    name: str
    digests: bytes
    ends: NDArray[np.int64]
    runs: list[Run]
    content: Path | None = field(default=None)

    def digest(self, chunk: int) -> bytes:
        """Return the hash of a chunk."""
        return self.digests[32 * chunk : 32 * chunk + 32]

    def sizes(self) -> NDArray[np.int64]:
        """Return the length of each chunk."""
        return np.diff(self.ends, prepend=0)

    def covered(self) -> NDArray[np.bool_]:
        """Return which chunks are in stored files."""
        found = np.zeros(len(self.ends), dtype=bool)
        for run in self.runs:
            found[run.begin : run.end] = True
        return found

    @functools.cached_property
    def run_of(self) -> NDArray[np.int32]:
        """The number of a run for each chunk, -1 for a chunk that is in no stored file."""
        found = np.full(len(self.ends), -1, dtype=np.int32)
        for number, run in enumerate(self.runs):
            found[run.begin : run.end] = number
        return found

    def missing(self) -> list[int]:
        """Return the chunks that are in no stored file."""
        return [int(i) for i in np.flatnonzero(~self.covered())]

    def at(self, chunk: int) -> int:
        """Return where a chunk begins among the bytes of all."""
        return int(self.ends[chunk - 1]) if chunk else 0


class Xorbs:
    """The xorbs of all owners."""

    def __init__(self, folder: Path, *, hours: float) -> None:
        self._folder, self._seconds = folder, hours * 3600
        folder.mkdir(exist_ok=True)

    def space(self, who: Principal) -> str:
        """Return the present name of the address for ``who``."""
        place = self.place(who)
        for _ in range(3):
            with contextlib.suppress(FileNotFoundError):
                if (found := (place / "space").read_text("ascii")).isalnum():
                    return found
            new = place / f"{secrets.token_hex(8)}.part"
            with storage_errors(new):
                new.write_text(secrets.token_hex(8), "ascii")
            with contextlib.suppress(FileExistsError):
                (place / "space").hardlink_to(new)
            new.unlink()
        raise UsageError("cannot be read", about=place / "space")

    def close_space(self, who: Principal) -> None:
        """Let clients of ``who`` forget which xorbs they sent: they get another address."""
        (self.place(who) / "space").unlink(missing_ok=True)

    def staged(self, who: Principal) -> int:
        """Return the bytes on disk that are not in stored files, and those of lists of chunks."""
        total = 0
        with os.scandir(self.place(who)) as entries:
            for entry in entries:
                if entry.name.endswith((".bytes", ".index", ".part")):
                    with contextlib.suppress(FileNotFoundError):
                        total += entry.stat().st_size
        return total

    def has(self, who: Principal, name: str) -> bool:
        """Return whether ``who`` has sent a xorb; if so, it is kept from now on as long as a new one."""
        try:
            os.utime(self._index(who, name))
        except FileNotFoundError:
            return False
        return True

    def find(self, who: Principal, name: str) -> Xorb | None:
        """Return a xorb that ``who`` has sent."""
        content: Path | None = self._index(who, name).with_suffix(".bytes")
        # The bytes first: they are deleted after the index says in which files they are.
        if content is not None and not content.exists():
            content = None
        try:
            source = self._index(who, name).read_bytes()
            (count,) = struct.unpack_from("<I", source)
            chunks = np.frombuffer(source, _CHUNKS, count, 4)
            runs = [
                Run(begin, end, sha256.hex(), offset)
                for begin, end, sha256, offset in _RUN.iter_unpack(source[4 + chunks.nbytes :])
            ]
        except (FileNotFoundError, struct.error, ValueError):
            return None
        ends = np.cumsum(chunks["size"], dtype=np.int64)
        if content is not None:
            with contextlib.suppress(FileNotFoundError):
                if content.stat().st_size != int(ends[-1]):
                    return None  # left so by a power cut
        return Xorb(name, chunks["digest"].tobytes(), ends, runs, content)

    def receive(self, who: Principal, name: str, *, room: int) -> XorbReceiver:
        """Return what takes the bytes of the xorb ``name``; its chunks may have ``room`` bytes."""
        return XorbReceiver(self._index(who, name), name, room=room)

    def stored(self, who: Principal, name: str, runs: list[Run]) -> None:
        """Note that chunks of a xorb are in stored files; its bytes are deleted when all are."""
        found = self.find(who, name)
        if found is None:
            return
        covered = found.covered()
        for run in runs:
            if not covered[run.begin : run.end].all():
                found.runs.append(run)
                covered[run.begin : run.end] = True
        _write_index(self._index(who, name), found.digests, found.sizes(), found.runs)
        if covered.all():
            self._index(who, name).with_suffix(".bytes").unlink(missing_ok=True)

    def stored_elsewhere(self, who: Principal, names: Sequence[str]) -> None:
        """Note chunks of some xorbs that no file refers to, but that are equal to chunks of stored files.

        A client that reads two equal files at once sends their chunks twice, and refers to one of each.
        """
        wanted: dict[bytes, Run | None] = {}
        for xorb in self._each(who, names):
            if xorb.content is not None:
                wanted |= {xorb.digest(i): None for i in xorb.missing()}
            if len(wanted) > _MOST_WANTED:
                return
        for xorb in self._each(who, names if wanted else ()):
            for run in xorb.runs:
                for number in range(run.begin, run.end):
                    if xorb.digest(number) in wanted:
                        offset = run.offset + xorb.at(number) - xorb.at(run.begin)
                        wanted[xorb.digest(number)] = Run(number, number + 1, run.sha256, offset)
        for xorb in self._each(who, names if wanted else ()):
            copies = [(i, wanted.get(xorb.digest(i))) for i in xorb.missing()]
            runs = [Run(i, i + 1, copy.sha256, copy.offset) for i, copy in copies if copy is not None]
            if runs:
                self.stored(who, xorb.name, _joined(runs, xorb))

    def _each(self, who: Principal, names: Sequence[str]) -> Iterator[Xorb]:
        for name in names:
            if (found := self.find(who, name)) is not None:
                yield found

    def forget(self, who: Principal, names: set[str]) -> None:
        """Delete xorbs, and let clients send them again."""
        self.close_space(who)
        for name in names:
            self._index(who, name).unlink(missing_ok=True)
            self._index(who, name).with_suffix(".bytes").unlink(missing_ok=True)

    def expire(self) -> int:
        """Delete xorbs that were not used for the settings' hours, and leftovers; returns how many."""
        gone = 0
        for place in self._folder.iterdir():
            for path in list(place.iterdir()):
                with contextlib.suppress(FileNotFoundError):
                    age = time.time() - path.stat().st_mtime
                    if path.suffix == ".index" and age > self._seconds:
                        # The address first: a client that asks for it now must not count on this xorb.
                        (place / "space").unlink(missing_ok=True)
                        path.unlink()
                        path.with_suffix(".bytes").unlink(missing_ok=True)
                        gone += 1
                    elif age > _LEFT_SECONDS and (path.suffix == ".part" or _is_alone(path)):
                        path.unlink()
        return gone

    def place(self, who: Principal) -> Path:
        """Return the folder of an owner."""
        found = self._folder / str(who.id)
        found.mkdir(exist_ok=True)
        return found

    def _index(self, who: Principal, name: str) -> Path:
        return self.place(who) / f"{name}.index"


class XorbReceiver:
    """Takes the bytes of a xorb and writes its chunks; a context manager. Not safe for threads.

    The xorb is here after ``keep``, not before.
    """

    def __init__(self, index: Path, name: str, *, room: int) -> None:
        self._index, self._name, self._room = index, name, room
        self._path = index.with_name(f"{secrets.token_hex(16)}.part")
        self._reader = XorbReader()
        self._chunks = bytearray()
        with storage_errors(self._path):
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> XorbReceiver:
        return self

    @property
    def received(self) -> int:
        """The bytes that came, as they were sent."""
        return self._reader.received

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Read the next bytes.

        Raises:
            UsageError: they are not of a xorb.
            TooLarge, QuotaExceeded, StorageFull
        """
        for chunk in self._reader.feed(piece):
            if self._reader.unpacked > self._room:
                raise QuotaExceeded(
                    f"this upload needs more than the {self._room} bytes that are left of the quota",
                    remedy="delete something, or ask the operator for a larger quota",
                )
            with storage_errors(self._path):
                left = memoryview(chunk.content)
                while left:
                    left = left[os.write(self._file, left) :]
            self._chunks += chunk.digest + struct.pack("<I", len(chunk.content))

    def keep(self) -> None:
        """Keep the xorb.

        Raises:
            UsageError: it is not complete, or not the announced one.
        """
        found = text_of(self._reader.end())
        if found != self._name:
            raise UsageError(
                f"the received xorb has the hash {found[:12]}..., {self._name[:12]}... was announced",
                remedy="nothing was kept; send it again",
            )
        if self._index.exists():
            return  # another request was first, and its chunks may be in stored files already
        with storage_errors(self._path):
            os.fsync(self._file)
        self._path.replace(self._index.with_suffix(".bytes"))
        chunks = np.frombuffer(bytes(self._chunks), _CHUNKS)
        _write_index(self._index, chunks["digest"].tobytes(), chunks["size"].astype(np.int64), [])

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        os.close(self._file)
        self._path.unlink(missing_ok=True)


def _joined(runs: list[Run], xorb: Xorb) -> list[Run]:
    """Join runs that follow each other in the xorb and in their file."""
    found: list[Run] = []
    for run in runs:
        if found and (found[-1].end, found[-1].sha256) == (run.begin, run.sha256):
            last = found[-1]
            if last.offset + xorb.at(last.end) - xorb.at(last.begin) == run.offset:
                found[-1] = Run(last.begin, run.end, last.sha256, last.offset)
                continue
        found.append(run)
    return found


def _is_alone(path: Path) -> bool:
    return path.suffix == ".bytes" and not path.with_suffix(".index").exists()


def covering(xorb: Xorb, begin: int, end: int) -> list[Run] | None:
    """Return where chunks ``begin`` to ``end`` are among stored files; None if one of them is not."""
    found: list[Run] = []
    while begin < end:
        number = int(xorb.run_of[begin])
        if number < 0:
            return None
        run = xorb.runs[number]
        until = min(run.end, end)
        found.append(Run(begin, until, run.sha256, run.offset + xorb.at(begin) - xorb.at(run.begin)))
        begin = until
    return found


def _write_index(path: Path, digests: bytes, sizes: NDArray[np.int64], runs: list[Run]) -> None:
    chunks = np.empty(len(sizes), _CHUNKS)
    chunks["digest"] = np.frombuffer(digests, "V32")
    chunks["size"] = sizes
    with atomic_write(path) as out:
        out.write(struct.pack("<I", len(chunks)) + chunks.tobytes())
        for run in runs:
            out.write(_RUN.pack(run.begin, run.end, bytes.fromhex(run.sha256), run.offset))
