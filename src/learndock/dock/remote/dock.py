"""A dock behind an address: what one can do with a folder, asked of a service.

Whatever comes back is somebody's word. A manifest must have the digest that its id says, a file the SHA-256 that its
manifest says, before either is shown or gets its name.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NoReturn
from urllib.parse import quote, urlencode

from learndock.dock.admission import Admit, admit
from learndock.dock.local import Dock, Record, SpecTable
from learndock.dock.remote import credentials
from learndock.dock.remote.session import Session
from learndock.dock.remote.transfer import Download, upload
from learndock.dock.storage import lookup as meant
from learndock.dock.storage.blobs import copy_checked
from learndock.dock.storage.export import Found, exported
from learndock.dock.storage.gc import Collected
from learndock.dock.storage.specs import checked_spec
from learndock.dock.storage.verify import Problem
from learndock.errors import Corrupt, NotFound, PackageError, ServiceError, UsageError
from learndock.package.formats import Progress
from learndock.package.manifest import File, Manifest
from learndock.spec.spec import Spec, canonical

PAGE = 200


class RemoteDock(Dock):
    """A dock behind an address; get one from ``open_dock``. Not safe for threads."""

    def __init__(self, url: str, *, token: str | None = None, admit: Admit = admit) -> None:
        self.url = self._address = credentials.base_url(url)
        self.session = Session(self._address, token=token or credentials.token_for(self._address))
        self._admit = admit

    @property
    def folder(self) -> Path:
        """There is none here.

        Raises:
            UsageError
        """
        self._refuse("its folder is the service's")

    def __len__(self) -> int:
        return sum(len(page) for page in self._pages(whole=False))

    def add(
        self, folder: str | Path, *, vouched: bool = False, progress: Progress | None = None, private: bool = False
    ) -> Record:
        """Check a learnware folder here, send it, and publish it; the same content again gives the same record.

        What was sent before, by this or by an earlier call that broke off, is not sent again. ``private`` counts
        where the name is new. Progress is in bytes.

        Raises:
            UsageError: it is to be ``vouched`` for, which only who keeps the dock can.
            PackageError, UnsafeModel, SpecError: it may not be stored; nothing was sent, or nothing was published.
            Conflict: the name stands, or stood, for other content.
            Unauthorized, Forbidden: it needs a token that may write.
            QuotaExceeded, TooLarge, StorageFull: the service has no room for it.
            Unavailable: the service is gone; what was sent stays there for a while.
        """
        if vouched:
            raise UsageError("only who keeps the dock can vouch for a spec: `learndock add --vouch` on its own folder")
        admitted = self._admit(Path(folder))
        manifest, done = admitted.manifest, 0
        total = sum(f.size for f in manifest.files)

        def count(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(min(done, total), total)

        for file in manifest.files:
            upload(self.session, admitted.folder / file.path, file, count)
        asked = {"manifest": manifest.model_dump(mode="json"), "private": private}
        found = self.session.json("POST", "/learnwares", asked)
        if not isinstance(found, dict) or found.get("id") != manifest.id:
            raise ServiceError(f"{self._address}: says that it published something else; do not trust this dock")
        return Record(manifest.name, manifest.digest, manifest, _number(found.get("sequence"), self._address))

    def records(self, *, known: Mapping[str, Record] = MappingProxyType({})) -> list[Record]:
        """The learnwares that one may see, in order of addition; ``known`` spares a folder work, here none."""
        return [self._record(found) for page in self._pages(whole=True) for found in page]

    def get_record(self, which: str) -> Record:
        """See ``Dock.get_record``; the message suggests nothing."""
        name, version = meant.parse(which)
        query = f"?{urlencode({'version': version})}" if version else ""
        found = self._record(self.session.json("GET", f"/learnwares/{quote(name)}{query}"))
        if found.name.casefold() != name.casefold() or not found.digest.startswith(version):
            raise Corrupt(f"{self._address}: answered with {found.id} for {which}; do not trust this dock")
        return found

    def remove(self, which: str) -> Record:
        """See ``Dock.remove``; its repository goes with it."""
        found = self.get_record(which)
        self.session.json("DELETE", f"/learnwares/{quote(found.name)}")
        return found

    def export(self, which: str, out: str | Path, *, progress: Progress | None = None) -> Path:
        """See ``Dock.export``; also a connection that stays broken leaves no folder."""
        manifest = self.get_record(which).manifest

        @contextlib.contextmanager
        def reading() -> Iterator[Found]:
            yield Found(manifest, self._open)

        return exported(Path(out), reading, progress=progress)

    def verify(self, which: str | None = None, *, progress: Progress | None = None) -> list[Problem]:
        """Get every file of one learnware, or of all that one may see, and hash it. Progress is in bytes.

        Raises:
            NotFound: there is no such learnware.
            Unavailable: the service is gone.
        """
        found = self.records() if which is None else [self.get_record(which)]
        files = [(record, file) for record in found for file in record.manifest.files]
        total, done = sum(f.size for _, f in files), 0
        problems = []
        nowhere: Any = _Nowhere()
        for record, file in files:
            where = f"{record.name}: {file.path}"
            try:
                with self._open(record.manifest, file) as stream:
                    copy_checked(stream, nowhere, sha256=file.sha256, size=file.size, where=where)
            except (Corrupt, NotFound) as error:
                problems.append(Problem("error", record.name, f"{error}; tell the operator of the dock"))
            done += file.size
            if progress is not None:
                progress(done, total)
        return problems

    def rebuild(self, *, progress: Progress | None = None) -> int:
        """Is the operator's.

        Raises:
            UsageError
        """
        self._refuse("to rebuild is its operator's")

    def collect(self) -> Collected:
        """Is done by the service itself.

        Raises:
            UsageError
        """
        self._refuse("it collects by itself")

    def spaces(self) -> dict[str, tuple[str, int]]:
        """See ``Dock.spaces``, for what one may see."""
        found = self.session.json("GET", "/spaces")
        try:
            return {str(s["id"]): (str(s["name"]), int(s["learnwares"])) for s in found["spaces"]}
        except (KeyError, TypeError, ValueError):
            raise self._strange() from None

    def vectors(self, space_id: str, *, names: Sequence[str] | None = None) -> SpecTable:
        """Stay at the service, where the search is.

        Raises:
            UsageError
        """
        self._refuse("the search runs there; use identify")

    def spec(self, which: str, space_id: str) -> Spec:
        """See ``Dock.spec``."""
        record = self.get_record(which)
        for entry in record.manifest.specs:
            if entry.space_id == space_id:
                file = next(f for f in record.manifest.files if f.path == entry.path)
                source, where = io.BytesIO(), f"{record.name}: {file.path}"
                with self._open(record.manifest, file) as stream:
                    copy_checked(stream, source, sha256=file.sha256, size=file.size, where=where)
                return checked_spec(source.getvalue(), entry, where=where)
        raise NotFound(f"{which}: has no spec of the space {space_id[:12]}")

    def rank(self, spec: bytes, *, top: int, filters: dict[str, str], seed: int) -> Any:
        """The service's answer to the bytes of a task's spec (see ``search.identify``)."""
        headers = {"Content-Type": "application/octet-stream"}
        query = urlencode({"top": top, "seed": seed, **filters})
        return self.session.json("POST", f"/identify?{query}", spec, headers=headers)

    # -- inside -------------------------------------------------------------------------------------------

    def _open(self, manifest: Manifest, file: File) -> IO[bytes]:
        path = f"/learnwares/{quote(manifest.name)}/files/{quote(file.path)}?version={manifest.digest}"
        return Download(self.session, path, file.size)  # type: ignore[return-value]

    def _pages(self, *, whole: bool) -> Iterator[list[Any]]:
        after: Any = 0
        while after is not None:
            query = urlencode({"after": after, "limit": PAGE, "whole": str(whole).lower()})
            page = self.session.json("GET", f"/learnwares?{query}")
            try:
                found, following = list(page["learnwares"]), page["next"]
            except (KeyError, TypeError):
                raise self._strange() from None
            yield found
            if following is not None and _number(following, self._address) <= after:
                raise self._strange()
            after = following

    def _record(self, found: Any) -> Record:
        try:
            named, digest, sequence = str(found["name"]), str(found["version"]), found["sequence"]
            manifest = Manifest.from_bytes(canonical(found["manifest"]), where=f"{self._address}: {named[:100]}")
        except (KeyError, TypeError, ValueError):
            raise self._strange() from None
        except PackageError as error:
            raise Corrupt(f"{error}; tell the operator of the dock") from None
        if manifest.digest != digest or manifest.name != named:
            raise Corrupt(
                f"{self._address}: the manifest of {named[:100]} is not the one that its version {digest[:12]} names; "
                "do not trust this dock"
            )
        return Record(manifest.name, digest, manifest, _number(sequence, self._address))

    def _strange(self) -> ServiceError:
        return ServiceError(f"{self._address}: answers not as a learndock does; check the address")

    def _refuse(self, why: str) -> NoReturn:
        raise UsageError(f"{self._address}: a dock behind an address: {why}; name a folder with --dock for this")


class _Nowhere(io.RawIOBase):
    def write(self, piece: Any, /) -> int:
        return len(piece)


def _number(value: Any, url: str) -> int:
    if type(value) is not int:
        raise ServiceError(f"{url}: answers not as a learndock does; check the address")
    return value
