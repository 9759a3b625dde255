"""The truth on disk: one small file for each name that was ever published.

    learnwares/OWNER/NAME.json   {"format": 2, "name": ..., "latest": 2, "tags": {"stable": 1}, "versions": [
                                  {"number": 1, "state": "removed", "sequence": 7, "digest": ...},
                                  {"number": 2, "state": "published", "sequence": 9, "digest": ..., "time": ...,
                                   "manifest": {...}}]}

Replacing this file atomically is what publishes, removes, tags or deprecates. The database follows, and can be rebuilt
from these files and the blobs. The file has each manifest as JSON whose canonical bytes hash to the digest, whichever
version of learndock wrote it. Files of format 1, which learndock 0.1.0 wrote, have one version and no number; they are
read, and become format 2 when their name is next written.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from learndock.errors import Corrupt, PackageError
from learndock.files import atomic_write, sha256_bytes, storage_errors, sync_folder
from learndock.package.deprecation import Deprecation
from learndock.package.front_matter import SILENT, FrontMatter
from learndock.package.manifest import Manifest, check_name

FORMAT = 2


@dataclass(frozen=True)
class Version:
    """One version of a name; ``manifest`` is its bytes, or None where the version was removed.

    ``published_at`` is in UTC ("2026-01-31T12:00:00Z"), or "" where learndock 0.1.0 published it. ``supersedes`` is the
    name of another learnware that its owner replaced by this version.
    """

    number: int
    digest: str
    sequence: int
    manifest: bytes | None
    published_at: str = ""
    supersedes: str | None = None

    @property
    def published(self) -> bool:
        """Whether the version is published."""
        return self.manifest is not None


@dataclass(frozen=True)
class CardFile:
    """A card among the blobs."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Event:
    """One change of what is said about a name: when (UTC), by whom ("" where the dock does not know), what and how."""

    time: str
    by: str
    what: str
    value: str


@dataclass(frozen=True)
class Publication:
    """The state of one name on disk; ``latest`` is the number tagged so, or None where no version is published.

    ``card`` is the present one, or None where the content has it or there is none, and ``said`` what its front matter
    says. ``former`` are the names that the learnware had before, the last one last; ``moved_to`` is where it went.
    """

    name: str
    versions: tuple[Version, ...]
    latest: int | None
    tags: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    deprecated: Deprecation | None = None
    card: CardFile | None = None
    said: FrontMatter = SILENT
    history: tuple[Event, ...] = ()
    former: tuple[str, ...] = ()
    moved_to: str | None = None

    @classmethod
    def first(cls, name: str, version: Version) -> Publication:
        """Return the state of a name with one published version."""
        return cls(name, (version,), version.number)

    @property
    def published(self) -> bool:
        """Whether any version is published."""
        return self.latest is not None

    @property
    def last(self) -> int:
        """The highest number that was ever given."""
        return self.versions[-1].number if self.versions else 0

    @property
    def current(self) -> Version | None:
        """The version tagged ``latest``."""
        return None if self.latest is None else self.version(self.latest)

    def version(self, number: int) -> Version | None:
        """Return the version with this number."""
        return next((v for v in self.versions if v.number == number), None)

    def published_versions(self) -> list[Version]:
        """Return the published versions, by number."""
        return [v for v in self.versions if v.published]

    def with_content(self, digest: str) -> Version | None:
        """Return the newest published version with this content."""
        return next((v for v in reversed(self.versions) if v.published and v.digest == digest), None)

    def with_version(self, version: Version) -> Publication:
        """Return the state with one more version, which becomes ``latest``."""
        return replace(self, versions=(*self.versions, version), latest=version.number)

    def without(self, number: int | None = None) -> Publication:
        """Return the state with one version removed, or all; the newest that remains becomes ``latest``."""
        gone = {v.number for v in self.versions} if number is None else {number}
        versions = tuple(replace(v, manifest=None) if v.number in gone else v for v in self.versions)
        left = [v.number for v in versions if v.published]
        latest = self.latest if self.latest in left else max(left, default=None)
        tags = {tag: of for tag, of in self.tags.items() if of in left}
        return replace(self, versions=versions, latest=latest, tags=MappingProxyType(tags))

    def with_card(self, card: CardFile, said: FrontMatter, *events: Event) -> Publication:
        """Return the state with another card."""
        return replace(self, card=card, said=said, history=(*self.history, *events))

    def moved(self, name: str) -> Publication:
        """Return the state of this learnware under the name ``name``."""
        return replace(self, name=name, former=(*self.former, self.name), moved_to=None)

    def left(self, name: str) -> Publication:
        """Return the state of this name after its learnware moved to ``name``."""
        return replace(self.without(), moved_to=name, card=None, said=SILENT, history=(), deprecated=None)

    def cards(self) -> set[str]:
        """Return the SHA-256 of its present and its former cards."""
        found = {event.value for event in self.history if event.what == "card"}
        return found if self.card is None else {*found, self.card.sha256}

    def tagged(self, tag: str, number: int) -> Publication:
        """Return the state with ``tag`` at a version; ``latest`` is a tag too."""
        if tag == "latest":
            return replace(self, latest=number)
        return replace(self, tags=MappingProxyType({**self.tags, tag: number}))

    def untagged(self, tag: str) -> Publication:
        """Return the state without ``tag``."""
        return replace(self, tags=MappingProxyType({t: n for t, n in self.tags.items() if t != tag}))

    def with_deprecation(self, deprecated: Deprecation | None, *events: Event) -> Publication:
        """Return the state with this deprecation, or none."""
        return replace(self, deprecated=deprecated, history=(*self.history, *events))

    def about(self) -> str:
        """Return what belongs to the name and not to a version, as JSON for the database; ``{}`` where it is plain."""
        return json.dumps(self._about(), sort_keys=True, ensure_ascii=False)

    def _history(self) -> dict[str, Any]:
        return {"history": [asdict(event) for event in self.history]} if self.history else {}

    def _about(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.tags:
            found["tags"] = dict(self.tags)
        if self.deprecated is not None:
            found["deprecated"] = self.deprecated.to_dict()
        if self.card is not None:
            found["card"] = {**asdict(self.card), "said": self.said.to_dict()}
        if self.former:
            found["former"] = list(self.former)
        if self.moved_to is not None:
            found["moved_to"] = self.moved_to
        return found

    def to_bytes(self) -> bytes:
        """Return the bytes of its file."""
        return _canonical(
            {
                "format": FORMAT,
                "name": self.name,
                "latest": self.latest,
                "versions": [_version_to_dict(v) for v in self.versions],
                **self._about(),
                **self._history(),
            }
        )


def _version_to_dict(version: Version) -> dict[str, Any]:
    found: dict[str, Any] = {
        "number": version.number,
        "state": "published" if version.published else "removed",
        "sequence": version.sequence,
        "digest": version.digest,
    }
    if version.published_at:
        found["time"] = version.published_at
    if version.supersedes is not None:
        found["supersedes"] = version.supersedes
    if version.manifest is not None:
        found["manifest"] = json.loads(version.manifest)
    return found


def _canonical(source: Any) -> bytes:
    return (json.dumps(source, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


class Publications:
    """The files of all names, below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def file(self, name: str) -> Path:
        """Return the path of the file of ``name``, which may not exist."""
        owner, _, own = check_name(name).partition("/")
        return self._root / owner / f"{own}.json"

    def read(self, name: str) -> Publication | None:
        """Return the state of ``name``; None where it was never published.

        Raises:
            Corrupt: the file is not one that the dock wrote.
        """
        source = self._read_bytes(name)
        return None if source is None else parse(source, name, self.file(name))

    def _read_bytes(self, name: str) -> bytes | None:
        try:
            return self.file(name).read_bytes()
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def replaced(self, publication: Publication) -> Iterator[None]:
        """Publish, remove or tag: replace the name's file durably before the block, or raise and change nothing.

        If the block fails, the previous file is put back. That needs no room on the disk: it was kept under another
        name.

        Raises:
            StorageFull: no room.
        """
        file = self.file(publication.name)
        kept = file.with_name(f".{file.name}.before.part")
        with storage_errors(file):
            if not file.parent.is_dir():
                file.parent.mkdir(exist_ok=True)
                sync_folder(self._root)
            kept.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                kept.hardlink_to(file)
            try:
                with atomic_write(file) as out:
                    out.write(publication.to_bytes())
                yield
            except BaseException:
                if kept.exists():
                    kept.replace(file)
                    kept.unlink(missing_ok=True)  # two names of one file are left alone by a rename
                else:
                    file.unlink(missing_ok=True)
                sync_folder(file.parent)
                raise
        with contextlib.suppress(OSError):  # it is done; ``gc`` deletes what is left
            kept.unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """Yield all names that have a file, sorted.

        Raises:
            Corrupt: a file has a name that no learnware can have.
        """
        for file in sorted(self._root.glob("*/*.json")):
            name = f"{file.parent.name}/{file.stem}"
            try:
                yield check_name(name)
            except PackageError as error:
                raise damaged(file, error.what) from None

    def empty(self) -> bool:
        """Return whether nothing was ever published."""
        return next(self._root.glob("*/*.json"), None) is None

    def manifest(self, publication: Publication, version: Version) -> Manifest:
        """Return the manifest of a published version; a moved learnware's may have a former name.

        Raises:
            Corrupt: it is not a manifest, or that of another learnware.
        """
        name, former = publication.name, publication.former
        file = self.file(name)
        if version.manifest is None:
            raise damaged(file, f"v{version.number} was removed")
        try:
            manifest = Manifest.from_bytes(version.manifest, where=str(file))
        except PackageError as error:
            raise damaged(file, error.what) from None
        if manifest.name not in (name, *former):
            raise damaged(file, f"its manifest is that of {manifest.name}")
        return manifest

    def leftovers(self) -> Iterator[Path]:
        """Return the unfinished files of writers that were killed."""
        return self._root.glob("*/.*.part")


def parse(source: bytes, name: str, file: Path) -> Publication:
    """Return the state of ``name`` that the bytes of its file say.

    Raises:
        Corrupt: these are not bytes that a dock wrote.
    """
    try:
        record = json.loads(source.decode("utf-8"))
        found = _parse_1(record) if "format" not in record else _parse_2(record)
        sound = found.name == name and _sound(found)
        if b"\\ud" in source.lower():  # text that is not Unicode could not be written again
            found.to_bytes()
    except (UnicodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError, PackageError) as error:
        raise damaged(file, f"it cannot be read ({error})") from None
    if not sound:
        raise damaged(file, "its fields contradict each other")
    if any(v.manifest is not None and sha256_bytes(v.manifest) != v.digest for v in found.versions):
        raise damaged(file, "its manifest does not hash to its digest")
    return found


def _parse_1(record: Mapping[str, Any]) -> Publication:
    version = _parse_version({**record, "number": 1})
    return Publication(record["name"], (version,), 1 if version.published else None)


def _parse_2(record: Mapping[str, Any]) -> Publication:
    if record["format"] != FORMAT:
        raise ValueError(f"format {record['format']!r}")
    deprecated, card = record.get("deprecated"), record.get("card")
    return Publication(
        record["name"],
        tuple(map(_parse_version, record["versions"])),
        record["latest"],
        MappingProxyType(dict(record.get("tags", {}))),
        None if deprecated is None else Deprecation.from_dict(deprecated),
        None if card is None else CardFile(str(card["sha256"]), int(card["size"])),
        SILENT if card is None else FrontMatter.from_dict(card["said"]),
        tuple(Event(*(str(e[key]) for key in ("time", "by", "what", "value"))) for e in record.get("history", ())),
        tuple(map(check_name, record.get("former", ()))),
        None if record.get("moved_to") is None else check_name(record["moved_to"]),
    )


def _parse_version(record: Mapping[str, Any]) -> Version:
    if record["state"] not in ("published", "removed"):
        raise ValueError(f"state {record['state']!r}")
    return Version(
        record["number"],
        str(record["digest"]),
        record["sequence"],
        _canonical(record["manifest"]) if record["state"] == "published" else None,
        str(record.get("time", "")),
        record.get("supersedes"),
    )


def _sound(found: Publication) -> bool:
    numbers = [v.number for v in found.versions]
    left = {v.number for v in found.versions if v.published}
    return (
        bool(numbers)
        and all(type(n) is int and n > 0 for n in numbers)
        and all(type(v.sequence) is int for v in found.versions)
        and numbers == sorted(set(numbers))
        and (found.latest in left if left else found.latest is None)
        and all(number in left for number in found.tags.values())
    )


def damaged(file: Path, why: str) -> Corrupt:
    """Return the error of a record that learndock did not write like this."""
    return Corrupt(
        f"is damaged: {why}",
        remedy="restore the file from a backup; or move it away, run `learndock rebuild` and add the learnware again",
        about=file,
    )
