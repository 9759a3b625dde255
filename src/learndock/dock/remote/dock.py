"""A dock at an address: the ``Dock`` of a service, asked over HTTP.

No answer is trusted. A manifest must have the digest that its id says, and a file the SHA-256 that its manifest says,
before either is shown or gets its name.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

from learndock.dock.admission import Admit, admit
from learndock.dock.protocol import Problem, Record, Removed
from learndock.dock.remote import credentials
from learndock.dock.remote.ask import identification, redacted, routed, sent_domain
from learndock.dock.remote.session import Session
from learndock.dock.remote.transfer import Download, upload
from learndock.dock.storage import lookup as meant
from learndock.dock.storage.blobs import copy_checked
from learndock.dock.storage.export import Found, exported, missing_bytes
from learndock.dock.storage.specs import checked_spec
from learndock.dock.summary import Summary, has_words
from learndock.errors import Corrupt, Forbidden, NotFound, PackageError, ServiceError, Unauthorized, UsageError
from learndock.package.formats import Progress
from learndock.package.manifest import MANIFEST, File, Manifest
from learndock.search.answer import CANDIDATES, Identification, answerable, check_question
from learndock.search.filters import EVERY, Filters
from learndock.search.route import Route
from learndock.spec.domain import Domain
from learndock.spec.file import spec_to_bytes
from learndock.spec.spec import Spec, canonical

PAGE = 200
#: Summaries per request: each is a twentieth of a manifest.
SUMMARIES = 1000
#: Most matches that a service ranks.
MOST = 1000


class RemoteDock:
    """A ``Dock`` at the address ``url``; get one from ``open_dock``. Not safe for threads."""

    def __init__(self, url: str, *, token: str | None = None, admit: Admit = admit) -> None:
        self.url = credentials.base_url(url)
        self.session = Session(self.url, token=token or credentials.token_for(self.url))
        self.admit = admit

    def __repr__(self) -> str:
        return f"<RemoteDock {self.url}>"  # without the number of learnwares: it would ask the service

    def __len__(self) -> int:
        page = self.session.json("GET", "/learnwares?limit=1")
        if isinstance(page, dict) and "total" in page:
            return _number(page["total"], self.url)
        return sum(len(page) for page in self._pages(limit=SUMMARIES))  # a service of 0.1.0

    def __enter__(self) -> RemoteDock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection to the service; a later question opens it again."""
        self.session.close()

    def add(
        self,
        folder: str | Path,
        *,
        after: str | None = None,
        supersedes: str | None = None,
        progress: Progress | None = None,
        private: bool = False,
    ) -> Record:
        """Check a learnware folder here, send it, and publish it (see ``Dock.add``).

        Whether you may publish under its name is asked first. Files that this or an interrupted earlier call sent are
        not sent again. With ``private`` only its owner ever sees it, or sees it from now on if it was public. Progress
        is in bytes.

        Raises:
            PackageError, UnsafeModel, SpecError: it may not be stored; nothing was sent, or nothing was published.
            Conflict: another version than ``after`` is ``latest``.
            Unauthorized, Forbidden: it needs a token of the name's owner that may write.
            QuotaExceeded, TooLarge, StorageFull: the service has no room for it.
            Unavailable: the service is gone; what was sent stays there for a while.
        """
        if after is not None or supersedes is not None:
            raise _not_yet("--after and --supersedes")
        folder = Path(folder)
        if (folder / MANIFEST).is_file():  # if not, ``admit`` says what is wrong with the folder
            self._need_owner(Manifest.from_folder(folder).name)
        admitted = self.admit(folder)
        manifest, done = admitted.manifest, 0
        total = sum(f.size for f in manifest.files)

        def count(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(min(done, total), total)

        for file in manifest.files:
            upload(self.session, admitted.folder / file.path, file, count, name=manifest.name)
        asked = {"manifest": manifest.model_dump(mode="json"), "private": private}
        found = self.session.json("POST", "/learnwares", asked)
        if not isinstance(found, dict) or found.get("id") != manifest.id:
            raise ServiceError("says that it published something else", remedy="do not trust this dock", about=self.url)
        hidden = found.get("private") is True
        if private and not hidden:
            raise ServiceError("did not make it private", remedy="ask the operator of the service", about=manifest.name)
        return Record(manifest.name, manifest.digest, manifest, _number(found.get("sequence"), self.url), hidden)

    def _need_owner(self, name: str) -> None:
        """Check that you may publish under ``name``, before its files are hashed and sent.

        Raises:
            Unauthorized: you are not logged in.
            Forbidden: the owner is neither you nor an organisation of yours, or your token may only read.
        """
        who = self.session.json("GET", "/whoami")
        try:
            known, scope = who["known"], who["scope"]
            owners = [str(who["name"]), *(str(o["name"]) for o in who["organisations"])]
        except (KeyError, TypeError):
            raise self._strange() from None
        if not known:
            raise Unauthorized("you are not logged in", remedy=f"`learndock login {self.url}`", about=self.url)
        if scope == "read":
            raise Forbidden("this token may read, publishing needs write", remedy="log in with --scope write")
        owner = name.partition("/")[0]
        if owner.casefold() not in [o.casefold() for o in owners]:
            raise Forbidden(
                f"its owner is {owner}, and you may publish as {', '.join(owners)}",
                remedy="pack it under such a name, or ask its owner to make you a member",
                about=name,
            )

    def records(self) -> list[Record]:
        """See ``Dock.records``."""
        pages = self._pages(limit=PAGE, include_manifest="true")
        return [self._record(found) for page in pages for found in page]

    def summaries(self, text: str = "", *, filters: Filters = EVERY) -> list[Summary]:
        """See ``Dock.summaries``; the service chooses, and sends no manifest."""
        asked = filters.to_dict() | ({"text": text} if text else {})
        summaries = (self._summary(found) for page in self._pages(limit=SUMMARIES, **asked) for found in page)
        return [s for s in summaries if has_words(s, text)]  # a service of 0.1.0 passes over ``text``

    def get_record(self, which: str) -> Record:
        """See ``Dock.get_record``; the error suggests no names."""
        name, version = meant.parse(which)
        if version and not meant.DIGEST.fullmatch(version):
            raise _not_yet("a version by its number or tag")
        query = f"?{urlencode({'digest': version})}" if version else ""
        found = self._record(self.session.json("GET", f"/learnwares/{quote(name)}{query}"))
        if found.name.casefold() != name.casefold() or not found.digest.startswith(version):
            raise Corrupt(f"answered with {found.id} for {which}", remedy="do not trust this dock", about=self.url)
        return found

    def versions(self, name: str) -> list[Record]:
        """See ``Dock.versions``.

        Raises:
            UsageError: the service does not list versions yet.
        """
        raise _not_yet("listing versions")

    def tag(self, which: str, tag: str) -> Record:
        """See ``Dock.tag``.

        Raises:
            UsageError: the service does not tag yet.
        """
        raise _not_yet("tagging")

    def untag(self, which: str, tag: str) -> Record:
        """See ``Dock.untag``.

        Raises:
            UsageError: the service does not tag yet.
        """
        raise _not_yet("tagging")

    def remove(self, which: str) -> Removed:
        """See ``Dock.remove``; its repository goes with it."""
        found = self.get_record(which)
        self.session.json("DELETE", f"/learnwares/{quote(found.name)}")
        return Removed(found)

    def get(self, which: str, out: str | Path, *, progress: Progress | None = None) -> Path:
        """See ``Dock.get``; a connection that stays broken leaves no folder."""
        record = self.get_record(which)

        @contextlib.contextmanager
        def reading() -> Iterator[Found]:
            try:
                yield Found(record.manifest, self._open)
            except NotFound:
                self.get_record(record.id)  # NotFound again, if the learnware was removed in the meantime
                raise missing_bytes(record.name) from None

        return exported(Path(out), reading, progress=progress)

    def verify(self, which: str, *, progress: Progress | None = None) -> list[Problem]:
        """Download every file of a learnware and hash it. Progress is in bytes.

        Raises:
            NotFound: there is no such learnware.
            Unavailable: the service is gone.
        """
        record = self.get_record(which)
        total, done = sum(f.size for f in record.manifest.files), 0
        problems = []
        for file in record.manifest.files:
            where = f"{record.name}: {file.path}"
            try:
                with self._open(record.manifest, file) as stream:
                    copy_checked(stream, None, sha256=file.sha256, size=file.size, where=where)
            except (Corrupt, NotFound) as error:
                problems.append(Problem("error", where, f"{error.message}; tell the operator of the dock"))
            done += file.size
            if progress is not None:
                progress(done, total)
        return problems

    def spaces(self) -> dict[str, tuple[str, int]]:
        """See ``Dock.spaces``."""
        found = self.session.json("GET", "/spaces")
        try:
            return {str(s["id"]): (str(s["name"]), int(s["learnwares"])) for s in found["spaces"]}
        except (KeyError, TypeError, ValueError):
            raise self._strange() from None

    def spec(self, which: str, space_id: str) -> Spec:
        """See ``Dock.spec``."""
        record = self.get_record(which)
        entry, file = record.spec_file(space_id)
        source, where = io.BytesIO(), f"{record.name}: {file.path}"
        with self._open(record.manifest, file) as stream:
            copy_checked(stream, source, sha256=file.sha256, size=file.size, where=where)
        return checked_spec(source.getvalue(), entry, where=where)

    def identify(self, spec: Spec, *, top: int = 10, filters: Filters = EVERY, seed: int = 0) -> Identification:
        """See ``Dock.identify``; what needs the names of the task's labels is done here.

        Raises:
            ServiceError: the service's answer is not one.
        """
        check_question(spec, top)
        if top > MOST:
            raise UsageError(f"top is {top}", remedy=f"a service ranks at most {MOST:,}", about=self.url)
        headers = {"Content-Type": "application/octet-stream"}
        query = urlencode({"top": max(top, CANDIDATES), "seed": seed, **filters.to_dict()})
        answer = self.session.json("POST", f"/identify?{query}", spec_to_bytes(redacted(spec)), headers=headers)
        try:
            return answerable(identification(answer), spec, top)
        except (KeyError, TypeError, ValueError):
            raise self._strange() from None

    def route(self, asked: Domain | Spec, *, top: int = 5, filters: Filters = EVERY) -> Route:
        """See ``Dock.route``; the service answers from specs that it keeps ready.

        Raises:
            ServiceError: the service's answer is not one.
        """
        query = urlencode({"top": top, **filters.to_dict()})
        if isinstance(asked, Spec):
            headers = {"Content-Type": "application/octet-stream"}
            answer = self.session.json("POST", f"/route?{query}", spec_to_bytes(redacted(asked)), headers=headers)
        else:
            answer = self.session.json("POST", f"/route?{query}", sent_domain(asked))
        try:
            return routed(answer)
        except (KeyError, TypeError, ValueError):
            raise self._strange() from None

    # -- inside -------------------------------------------------------------------------------------------

    def _open(self, manifest: Manifest, file: File) -> IO[bytes]:
        path = f"/learnwares/{quote(manifest.name)}/files/{quote(file.path)}?digest={manifest.digest}"
        return Download(self.session, path, file.size)  # type: ignore[return-value]

    def _pages(self, *, limit: int, **asked: str) -> Iterator[list[Any]]:
        after: Any = 0
        while after is not None:
            query = urlencode({"after": after, "limit": limit, **asked})
            page = self.session.json("GET", f"/learnwares?{query}")
            try:
                found, following = list(page["learnwares"]), page["next"]
            except (KeyError, TypeError):
                raise self._strange() from None
            yield found
            if following is not None and _number(following, self.url) <= after:
                raise self._strange()
            after = following

    def _record(self, found: Any) -> Record:
        try:
            named, digest, sequence = str(found["name"]), str(found["digest"]), found["sequence"]
            manifest = Manifest.from_bytes(canonical(found["manifest"]), where=f"{self.url}: {named[:100]}")
        except (KeyError, TypeError, ValueError):
            raise self._strange() from None
        except PackageError as error:
            raise Corrupt(error.message, remedy="tell the operator of the dock", about=error.about) from None
        if manifest.digest != digest or manifest.name != named:
            raise Corrupt(
                f"the manifest of {named[:100]} is not the one that its version {digest[:12]} names",
                remedy="do not trust this dock",
                about=self.url,
            )
        return Record(manifest.name, digest, manifest, _number(sequence, self.url), found.get("private") is True)

    def _summary(self, found: Any) -> Summary:
        try:
            return Summary(
                name=str(found["name"]),
                digest=str(found["digest"]),
                sequence=_number(found["sequence"], self.url),
                format=str(found["format"]),
                task={**found["task"], "type": str(found["task"]["type"])},
                license=None if found["license"] is None else str(found["license"]),
                base=None if found["base"] is None else str(found["base"]),
                description=str(found["description"]),
                spaces=tuple(map(str, found["spaces"])),
                bytes=_number(found["bytes"], self.url),
                private=found["private"] is True,
            )
        except (KeyError, TypeError):
            raise self._strange() from None

    def _strange(self) -> ServiceError:
        return ServiceError(
            "unexpected response", remedy="check that a learndock service is at this address", about=self.url
        )


def _not_yet(what: str) -> UsageError:
    return UsageError(
        f"{what}: this client cannot ask a service for that yet", remedy="ask the dock's operator, who can do it"
    )


def _number(value: Any, url: str) -> int:
    if type(value) is not int:
        raise ServiceError("unexpected response", remedy="check that a learndock service is at this address", about=url)
    return value
