"""A dock at an address: the ``Dock`` of a service, asked over HTTP.

No answer is trusted. A manifest must have the digest that its id says, and a file the SHA-256 that its manifest says,
before either is shown or gets its name.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

from learndock.dock.admission import Admit, Admitted, admit
from learndock.dock.protocol import Problem, Record, Removed
from learndock.dock.remote import credentials
from learndock.dock.remote.answers import number, record_of, strange, summary_of
from learndock.dock.remote.ask import identification, redacted, routed, sent_domain
from learndock.dock.remote.session import Session
from learndock.dock.remote.transfer import Count, Download, publish_inline, small_files, upload
from learndock.dock.storage import lookup as meant
from learndock.dock.storage.blobs import copy_checked
from learndock.dock.storage.export import Found, exported, missing_bytes
from learndock.dock.storage.names import LATEST, check_tag
from learndock.dock.storage.specs import checked_spec
from learndock.dock.summary import Summary, has_words
from learndock.errors import Corrupt, Forbidden, NotFound, ServiceError, Unauthorized, UsageError
from learndock.files import sha256_bytes
from learndock.package.formats import Progress
from learndock.package.front_matter import decode_card
from learndock.package.manifest import CARD, MANIFEST, File, Manifest
from learndock.search.answer import CANDIDATES, Identification, answerable, check_question
from learndock.search.filters import EVERY, Filters
from learndock.search.route import Route
from learndock.spec.domain import Domain
from learndock.spec.file import spec_to_bytes
from learndock.spec.spec import Spec

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
            return number(page["total"], self.url)
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
        folder = Path(folder)
        if (folder / MANIFEST).is_file():  # if not, ``admit`` says what is wrong with the folder
            name = Manifest.from_folder(folder).name
            self._need_owner(name)
            if supersedes is not None:
                self._need_owner(self.get_record(supersedes).name)
        admitted = self.admit(folder)
        manifest, done = admitted.manifest, 0
        total = sum(f.size for f in manifest.files)

        def count(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(min(done, total), total)

        asked = {"manifest": manifest.model_dump(mode="json"), "private": private}
        # A service of 0.1.0 knows no versions, and refuses to be asked for them
        card = None if admitted.card is None else decode_card(admitted.card)
        more = {"after": after, "supersedes": supersedes, "card": card}
        asked |= {name: value for name, value in more.items() if value is not None}
        found = self._send(admitted, asked, count)
        if not isinstance(found, dict) or found.get("id") != manifest.id:
            raise ServiceError("says that it published something else", remedy="do not trust this dock", about=self.url)
        record = record_of({**found, "manifest": asked["manifest"]}, self.url)
        if private and not record.private:
            raise ServiceError("did not make it private", remedy="ask the operator of the service", about=manifest.name)
        return record

    def _send(self, admitted: Admitted, asked: dict[str, Any], count: Count) -> Any:
        """Upload the large files of a learnware, and publish it with the small ones in the same request."""
        name, files = admitted.manifest.name, admitted.manifest.files
        inline = small_files(files)
        for file in files:
            if file not in inline:
                upload(self.session, admitted.folder / file.path, file, count, name=name)
        try:
            found = publish_inline(self.session, admitted.folder, inline, asked)
        except (NotFound, UsageError):
            # A service of 0.1.0 has no such address. One that refuses the learnware refuses it again.
            for file in inline:
                upload(self.session, admitted.folder / file.path, file, count, name=name)
            return self.session.json("POST", "/learnwares", asked)
        count(sum(file.size for file in inline))
        return found

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
        summaries = (summary_of(found, self.url) for page in self._pages(limit=SUMMARIES, **asked) for found in page)
        return [s for s in summaries if has_words(s, text)]  # a service of 0.1.0 passes over ``text``

    def get_record(self, which: str) -> Record:
        """See ``Dock.get_record``; the error suggests no names."""
        name, version = meant.parse(which)
        asked = {"digest" if meant.DIGEST.fullmatch(version) else "version": version} if version else {}
        query = f"?{urlencode(asked)}" if asked else ""
        found = self._record(self.session.json("GET", f"/learnwares/{quote(name)}{query}"))
        names = {n.casefold() for n in (found.name, *found.former)}
        if name.casefold() not in names or not _is_meant(found, version):
            raise Corrupt(f"answered with {found.id} for {which}", remedy="do not trust this dock", about=self.url)
        return found

    def versions(self, name: str) -> list[Record]:
        """See ``Dock.versions``."""
        own, _ = meant.parse(name)
        return self._records(self.session.json("GET", f"/learnwares/{quote(own)}/versions"), "versions")

    def tag(self, which: str, tag: str) -> Record:
        """See ``Dock.tag``.

        Raises:
            UsageError, NotFound: see ``Dock.tag``.
            Unauthorized, Forbidden: it needs a token of the owner that may write.
        """
        if tag != LATEST:
            check_tag(tag)
        record = self.get_record(which)
        path = f"/learnwares/{quote(record.name)}/tags/{quote(tag)}"
        self.session.json("PUT", path, {"version": record.digest})
        return self.get_record(record.id)

    def untag(self, which: str, tag: str) -> Record:
        """See ``Dock.untag``.

        Raises:
            UsageError, NotFound: see ``Dock.untag``.
            Unauthorized, Forbidden: it needs a token of the owner that may write.
        """
        name, _ = meant.parse(which)
        found = self.session.json("DELETE", f"/learnwares/{quote(name)}/tags/{quote(tag[:200], safe='')}")
        if not isinstance(found, dict) or not isinstance(found.get("digest"), str):
            raise self._strange()
        return self.get_record(f"{name}@{found['digest']}")

    def edit(
        self,
        which: str,
        *,
        card: str | None = None,
        license: str | None = None,  # noqa: A002 - the card's word
        description: str | None = None,
        tags: Sequence[str] = (),
        untag: Sequence[str] = (),
    ) -> Record:
        """See ``Dock.edit``.

        Raises:
            NotFound, PackageError: see ``Dock.edit``.
            Unauthorized, Forbidden: it needs a token of the owner that may write.
        """
        name, _ = meant.parse(which)
        given = {"card": card, "license": license, "description": description, "tags": [*tags], "untag": [*untag]}
        self.session.json("PATCH", f"/learnwares/{quote(name)}", {k: v for k, v in given.items() if v is not None})
        return self.get_record(name)

    def card(self, which: str) -> str:
        """See ``Dock.card``."""
        name, _ = meant.parse(which)
        found = self.session.json("GET", f"/learnwares/{quote(name)}/card")
        if not isinstance(found, dict) or not isinstance(found.get("card"), str):
            raise self._strange()
        return str(found["card"])

    def deprecate(self, which: str, *, use: str | None = None, because: str = "", undo: bool = False) -> Record:
        """See ``Dock.deprecate``.

        Raises:
            NotFound, UsageError: see ``Dock.deprecate``.
            Unauthorized, Forbidden: it needs a token of the owner that may write.
        """
        name, _ = meant.parse(which)
        path = f"/learnwares/{quote(name)}/deprecation"
        if undo:
            self.session.json("DELETE", path)
        else:
            self.session.json("PUT", path, {"use": use, "because": because})
        return self.get_record(name)

    def move(self, old: str, new: str) -> Record:
        """See ``Dock.move``.

        Raises:
            NotFound, Conflict, PackageError: see ``Dock.move``.
            Unauthorized, Forbidden: it needs a token of the owner that may write.
        """
        name, _ = meant.parse(old)
        self.session.json("POST", f"/repositories/{quote(name)}/move", {"to": new})
        return self.get_record(new)

    def remove(self, which: str) -> Removed:
        """See ``Dock.remove``; with the last version its repository goes too."""
        found = self.get_record(which)
        if "@" not in which:
            self.session.json("DELETE", f"/learnwares/{quote(found.name)}")
            return Removed(found)
        self.session.json("DELETE", f"/learnwares/{quote(found.name)}/versions/v{found.version}")
        try:
            return Removed(found, tuple(self.versions(found.name)))
        except NotFound:
            return Removed(found)

    def get(self, which: str, out: str | Path, *, progress: Progress | None = None) -> Path:
        """See ``Dock.get``; a connection that stays broken leaves no folder."""
        record = self.get_record(which)

        try:
            source = self.card(record.name).encode("utf-8")
        except NotFound:  # a service of 0.1.0 has cards among the files only
            source = b""
        card = File(path=CARD, size=len(source), sha256=sha256_bytes(source)) if source else None

        def opened(manifest: Manifest, file: File) -> IO[bytes]:
            return io.BytesIO(source) if file is card else self._open(manifest, file)

        @contextlib.contextmanager
        def reading() -> Iterator[Found]:
            try:
                yield Found(record.manifest, opened, card=card)
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
            if following is not None and number(following, self.url) <= after:
                raise self._strange()
            after = following

    def _record(self, found: Any) -> Record:
        return record_of(found, self.url)

    def _records(self, found: Any, key: str) -> list[Record]:
        if not isinstance(found, dict) or not isinstance(found.get(key), list):
            raise self._strange()
        return [self._record(each) for each in found[key]]

    def _strange(self) -> ServiceError:
        return strange(self.url)


def _is_meant(record: Record, reference: str) -> bool:
    """Whether a reference can mean this version; ``latest`` and "" may mean any."""
    if meant.DIGEST.fullmatch(reference):
        return record.digest.startswith(reference)
    return reference in ("", "latest", f"v{record.version}", *record.tags)
