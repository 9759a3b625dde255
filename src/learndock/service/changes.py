"""Repositories, commits and changes as values, and the rules for them that need no table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from learndock.errors import NotFound, PackageError
from learndock.package.manifest import check_name, check_path
from learndock.service.receiver import Blob

#: Files by which git clients keep their settings, in any folder.
GIT_FILES = frozenset({".gitattributes", ".gitignore"})


@dataclass(frozen=True)
class Repository:
    """A repository; ``digest`` is that of the published learnware, ``note`` says why the head is not one."""

    id: int
    name: str
    private: bool
    created: float
    changed: float
    head: str | None
    digest: str | None
    note: str | None

    @property
    def owner(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Commit:
    """One state of a repository."""

    id: str
    sequence: int
    author: str
    title: str
    body: str
    created: float
    digest: str | None


@dataclass(frozen=True)
class Entry:
    """One file of a commit."""

    path: str
    sha256: str
    size: int
    oid: str


@dataclass(frozen=True)
class Changes:
    """What a commit does to the tree: files to add by path, files and folders to delete."""

    add: Mapping[str, Blob] = field(default_factory=dict)
    delete: Sequence[str] = ()
    delete_folders: Sequence[str] = ()
    #: Files that are not in ``add`` go.
    replace: bool = False


def check_repository_name(name: str) -> str:
    """Return ``name`` if a new repository can have it.

    Raises:
        PackageError: it is not ``owner/name``, or it ends with ``.git``, which git clients add to an address.
    """
    if check_name(name).casefold().endswith(".git"):
        raise PackageError("a name cannot end in .git: git clients add it", remedy="leave it out", about=name)
    return name


def check_file_path(path: str) -> str:
    """Return ``path`` if a learnware may hold such a file (see ``check_path``), or if it is one of git's own.

    Raises:
        PackageError: it is not.
    """
    folder, _, name = path.rpartition("/")
    if name not in GIT_FILES:
        return check_path(path)
    if folder:
        check_path(folder)
    return path


def changed(before: Mapping[str, tuple[str, int]], changes: Changes) -> dict[str, tuple[str, int]]:
    """Return the files, path -> (SHA-256, size), that ``before`` becomes by ``changes``.

    Raises:
        NotFound: a file to delete is not there.
    """
    files = {} if changes.replace else dict(before)
    for path in changes.delete:
        if files.pop(path, None) is None:
            raise NotFound("cannot be deleted, there is no such file", about=path[:200])
    for folder in changes.delete_folders:
        below = folder.rstrip("/") + "/"
        files = {p: f for p, f in files.items() if not p.startswith(below)}
    return files | {path: (blob.sha256, blob.size) for path, blob in changes.add.items()}
