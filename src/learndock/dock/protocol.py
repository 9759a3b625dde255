"""What every dock can do, in a folder or at a service, and the values that it answers with.

``LocalDock`` (``local.py``) and ``RemoteDock`` (``remote/dock.py``) implement ``Dock``; ``open_dock`` chooses between
them. What only the operator of a dock does (``rebuild``, ``gc``, verifying everything) is on ``LocalDock`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

from learndock.data.examples import Input
from learndock.dock.summary import Summary, words_of
from learndock.errors import NotFound
from learndock.notebook import html_table
from learndock.package.deprecation import Deprecation
from learndock.package.formats import Progress
from learndock.package.front_matter import SILENT, FrontMatter
from learndock.package.manifest import File, Manifest, SpecFile
from learndock.search.answer import Identification
from learndock.search.filters import EVERY, Filters
from learndock.search.route import Route
from learndock.spec.domain import Domain, make_domain
from learndock.spec.spec import Spec


@dataclass(frozen=True)
class Record:
    """One version of a learnware of a dock; ``sequence`` grows in the order of addition.

    ``version`` is its number, ``latest`` the number of the version that the name alone stands for, and ``tags`` are the
    other tags of this version. ``published_at`` is in UTC, or "" where learndock 0.1.0 published it. ``supersedes`` is
    the learnware that this version replaced. ``deprecated`` says that the name should not be used any more.
    ``said`` is what the card says, and ``former`` the names that the learnware had before it was moved.

    ``private`` is whether only its owner may see it, as a service says; None in a folder, where nothing is private.
    """

    name: str
    digest: str
    manifest: Manifest
    sequence: int
    private: bool | None = field(default=None, compare=False)
    version: int = 1
    latest: int = 1
    tags: tuple[str, ...] = ()
    published_at: str = field(default="", compare=False)
    supersedes: str | None = None
    deprecated: Deprecation | None = None
    said: FrontMatter = SILENT
    former: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"<Record {self.name}@v{self.version} ({self.digest[:12]}): {self.manifest.format}, "
            f"{self.manifest.task['type']}>"
        )

    def _repr_html_(self) -> str:
        manifest = self.manifest
        rows = [
            ("id", self.id),
            ("version", f"v{self.version}" + ("" if self.version == self.latest else f" (latest is v{self.latest})")),
            ("format", manifest.format),
            ("task", manifest.task["type"]),
            ("labels", ", ".join(manifest.task_schema.labels) or "-"),
            ("license", self.license or "-"),
            ("deprecated", str(self.deprecated or "-")),
            ("base", manifest.base.name if manifest.base else "-"),
            ("specs", ", ".join(entry.space for entry in manifest.specs) or "-"),
            ("size", f"{sum(file.size for file in manifest.files) / 1e6:.1f} MB"),
        ]
        if self.private is not None:
            rows.append(("seen by", "owner" if self.private else "all"))
        return html_table(("learnware", ""), rows, caption=self.description)

    @property
    def id(self) -> str:
        """``owner/name@sha256``."""
        return f"{self.name}@{self.digest}"

    @property
    def license(self) -> str | None:
        """The license that the card says, or where it says none, the manifest."""
        return self.said.license or self.manifest.license

    @property
    def description(self) -> str:
        """What the card says the learnware does, or where it does not, the manifest."""
        return self.said.description or self.manifest.description

    def passes(self, filters: Filters) -> bool:
        """Whether it passes every filter, under its present name and by what its card says."""
        return filters.passes(self.manifest, name=self.name, license=self.license)

    @property
    def reference(self) -> str:
        """``owner/name@vN``."""
        return f"{self.name}@v{self.version}"

    @cached_property
    def words(self) -> str:
        """What a search by words looks at, without case."""
        manifest = self.manifest
        return words_of(self.name, self.description, manifest.task, self.said.tags)

    def spec_file(self, space_id: str) -> tuple[SpecFile, File]:
        """The manifest's entry of the spec in a space, and of its file.

        Raises:
            NotFound: the learnware has no spec in that space.
        """
        for entry in self.manifest.specs:
            if entry.space_id == space_id:
                return entry, next(f for f in self.manifest.files if f.path == entry.path)
        raise NotFound(
            f"has no spec of the space {space_id[:12]}", remedy="`learndock show` lists its spaces", about=self.name
        )


@dataclass(frozen=True)
class Removed:
    """What ``remove`` took out, the version tagged ``latest`` where that was the name, and the versions that remain."""

    record: Record
    remaining: tuple[Record, ...] = ()


#: How many learnwares a notebook shows.
SHOWN = 50


def records_table(records: Sequence[Record], where: str) -> str:
    """Return the first ``SHOWN`` learnwares of the dock ``where`` as an HTML table."""
    rows = [
        (r.name, r.manifest.format, r.manifest.task["type"], r.license or "-", r.description) for r in records[:SHOWN]
    ]
    more = "" if len(records) <= SHOWN else f", the first {SHOWN}"
    head = ("learnware", "format", "task", "license", "description")
    return html_table(head, rows, caption=f"{where}: {len(records)} learnware{'' if len(records) == 1 else 's'}{more}")


@dataclass(frozen=True)
class Problem:
    """Something that ``verify`` found.

    An ``error`` is not as it was published. A ``warning`` is a spec that crowds out other learnwares (see ``gate``).
    An ``info`` does no harm; ``gc`` deletes it.
    """

    severity: Literal["error", "warning", "info"]
    about: str
    message: str


@dataclass(frozen=True)
class GcResult:
    """How many things ``gc`` deleted; ``leased`` blobs are being read, so a later ``gc`` deletes them."""

    blobs: int
    unfinished: int
    leased: int = 0


class Dock(Protocol):
    """A dock, wherever it is; get one from ``open_dock``."""

    def __len__(self) -> int:
        """Return the number of learnwares that you may see."""
        ...

    def add(
        self,
        folder: str | Path,
        *,
        after: str | None = None,
        supersedes: str | None = None,
        progress: Progress | None = None,
    ) -> Record:
        """Check a learnware folder and publish it as the next version of its name, which becomes ``latest``.

        Where a version of the name has the same content, that version is returned and nothing changes. With ``after``
        ("v1", a tag or a digest) it is published only if that version is ``latest``. With ``supersedes`` the learnware
        of that name, which is yours too, is deprecated in favour of this one. Progress is in bytes.

        Raises:
            PackageError, UnsafeModel, SpecError: it may not be stored; nothing was published.
            SuspectSpec: a spec would crowd out other learnwares; nothing was published.
            Conflict: another version than ``after`` is ``latest``.
            NotFound: there is no learnware ``supersedes``.
            StorageFull: no room; nothing was published.
        """
        ...

    def records(self) -> list[Record]:
        """Return the learnwares that you may see, each as the version tagged ``latest``, in order of addition."""
        ...

    def summaries(self, text: str = "", *, filters: Filters = EVERY) -> list[Summary]:
        """Return what a list shows of the learnwares that you may see, in order of addition.

        Only of those that pass ``filters`` and have all words of ``text`` in their name, description or labels.
        """
        ...

    def get_record(self, which: str) -> Record:
        """Return the learnware ``owner/name``, or its version ``owner/name@REFERENCE``.

        A reference is ``v2``, a tag, or at least 6 hexadecimal digits of the digest.

        Raises:
            UsageError: what follows the @ is not a reference.
            NotFound: there is no such learnware.
        """
        ...

    def versions(self, name: str) -> list[Record]:
        """Return the published versions of ``owner/name``, by number.

        Raises:
            NotFound: there is no such learnware.
        """
        ...

    def tag(self, which: str, tag: str) -> Record:
        """Tag the version ``which``, and return it. A tag that another version has moves, also ``latest``.

        Raises:
            UsageError: ``tag`` has other characters than a-z, 0-9, ".", "_" and "-", or means something already.
            NotFound: there is no such version.
        """
        ...

    def untag(self, which: str, tag: str) -> Record:
        """Remove a tag of the learnware ``which``, and return the version that had it.

        Raises:
            UsageError: the tag is ``latest``.
            NotFound: there is no such learnware or tag.
        """
        ...

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
        """Edit the card of a learnware: replace it, or change its license, description and tags.

        "" removes a license or a description. No version changes; earlier cards stay in the history.

        Raises:
            NotFound: there is no such learnware.
            PackageError: the card is larger than 1 MB, not UTF-8, or its front matter cannot be read or changed.
        """
        ...

    def card(self, which: str) -> str:
        """Return the present card of a learnware, or "" where it has none.

        Raises:
            NotFound: there is no such learnware.
        """
        ...

    def deprecate(self, which: str, *, use: str | None = None, because: str = "", undo: bool = False) -> Record:
        """Say that a learnware should not be used any more, and which one to ``use`` instead; ``undo`` takes it back.

        Raises:
            NotFound: there is no such learnware, or none called ``use``.
            UsageError: ``use`` is the learnware itself.
        """
        ...

    def move(self, old: str, new: str) -> Record:
        """Give a learnware another name; the old one stays reserved, and means the learnware under its new name.

        Raises:
            NotFound: there is no such learnware.
            Conflict: the new name is, or was, another learnware's.
            PackageError: ``new`` is not ``owner/name``.
        """
        ...

    def remove(self, which: str) -> Removed:
        """Remove all versions of ``owner/name``, or only ``owner/name@REFERENCE``, and say what remains.

        A number is never given again. If ``latest`` is removed, the newest version that remains becomes ``latest``.

        Raises:
            NotFound: there is no such learnware.
        """
        ...

    def get(self, which: str, out: str | Path, *, progress: Progress | None = None) -> Path:
        """Write the learnware as the folder ``out``, hashing every file on the way. Progress is in bytes.

        Raises:
            NotFound: there is no such learnware.
            UsageError: ``out`` exists and is not an empty folder.
            Corrupt: a file is missing or damaged; ``out`` was not made.
            StorageFull: no room at ``out``, which was not made.
        """
        ...

    def verify(self, which: str, *, progress: Progress | None = None) -> list[Problem]:
        """Hash the files of a learnware again. Progress is in bytes.

        Raises:
            NotFound: there is no such learnware.
        """
        ...

    def spaces(self) -> dict[str, tuple[str, int]]:
        """Return space id -> the space's name, and how many learnwares have a spec in it."""
        ...

    def spec(self, which: str, space_id: str) -> Spec:
        """Return the complete spec of a learnware in one space.

        Raises:
            NotFound: there is no such learnware, or it has no spec in that space.
            Corrupt: the stored bytes are damaged.
        """
        ...

    def identify(self, spec: Spec, *, top: int = 10, filters: Filters = EVERY, seed: int = 0) -> Identification:
        """Rank the learnwares for the task ``spec``; ``filters`` limit which ones.

        A service is sent the spec without the names of its labels.

        Raises:
            UsageError: ``spec`` is a model's, or ``top`` is below 1.
            SpaceMismatch: the dock has specs, but none of this space; the message says what differs.
        """
        ...

    def route(self, asked: Domain | Spec, *, top: int = 5, filters: Filters = EVERY) -> Route:
        """Name the learnware that inputs (their ``Domain``) or a task's spec should go to.

        A service is sent the domain's numbers, or the spec without the names of its labels.
        """
        ...


def identify(dock: Dock, spec: Spec, *, top: int = 10, filters: Filters = EVERY, seed: int = 0) -> Identification:
    """Rank the learnwares of a dock for a task, and say whether any of them fits.

    A service is sent the spec without the names of its labels. ``fits`` compares the best match with the best one that
    permuted labels find in the same dock (max-T, Westfall and Young 1993), at 5% false alarms.

    Args:
        dock: a folder or a service, see ``open_dock``.
        spec: of a task, see ``make_spec``.
        top: how many matches to return.
        filters: which learnwares to search.
        seed: of the simulated permutations.

    Raises:
        UsageError: ``spec`` is of a model, or ``top`` is below 1.
        SpaceMismatch: the dock has specs, but none in this space; the message says what differs.

    Example:
        >>> spec = learndock.make_spec(learndock.read_examples("few.csv"))
        >>> answer = learndock.identify(learndock.open_dock("my-dock"), spec)
        >>> answer.fits, answer.matches[0].name
        (True, 'me/reviews')
    """
    return dock.identify(spec, top=top, filters=filters, seed=seed)


def route(
    dock: Dock,
    asked: Sequence[Input] | Domain | Spec,
    *,
    space: str | None = None,
    top: int = 5,
    filters: Filters = EVERY,
) -> Route:
    """Name the learnware that prompts should go to, and say how sure that is.

    Prompts alone have no labels, so they are compared by domain: what inputs are about. They are read on this machine,
    and a service is sent only the domain's numbers. From those of a single short text much of the text can be
    reconstructed; send several prompts together, or use a dock that may see them.

    Args:
        dock: a folder or a service, see ``open_dock``.
        asked: prompts of one client or task, a ``Domain`` of ``make_domain``, or a spec (``make_spec``), kept for a
            client whose task is known: with labels the answer is by behaviour too.
        space: of the prompts: name or folder; by default the built-in one for texts.
        top: how many of the nearest to return.
        filters: which learnwares to search, for example ``Filters(format="peft")``.

    Raises:
        DataError: there is no prompt.
        SpaceError, WeightsMissing: the space cannot be used here.

    Example:
        >>> dock = learndock.open_dock("my-dock")
        >>> learndock.route(dock, ["a great film", "poor actors and a weak story"]).name
        'me/reviews'
    """
    question = asked if isinstance(asked, Domain | Spec) else make_domain(asked, space=space)
    return dock.route(question, top=top, filters=filters)
