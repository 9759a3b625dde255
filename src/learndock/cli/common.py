"""What commands do before they call the library: read examples, open docks, find learnwares."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learndock.cli.show import progress, warn

if TYPE_CHECKING:
    from learndock.data import Examples, ReadOptions, Schema
    from learndock.dock import Dock, LocalDock
    from learndock.package import Learnware


def read_schema(source: str | None) -> Schema | None:
    """The schema of ``--schema``, if one was given."""
    from learndock.data import Schema

    return None if source is None else Schema.from_file(source)


def read_data(
    path: Path, schema: Schema | None, reading: ReadOptions, *, labels: bool | None = True, places: bool = True
) -> Examples:
    """Read DATA and print the reader's remarks; see ``read_examples`` for ``labels`` and ``places``."""
    from learndock.data import read_examples

    examples = read_examples(path, reading, schema=schema, labels=labels, places=places)
    for warning in examples.warnings:
        warn(warning)
    return examples


def warn_cut(settings: Mapping[str, Any]) -> None:
    """Say what the helper could not read, as a spec's settings have it."""
    for remark in (settings.get("reading") or {}).get("remarks", []):
        warn(str(remark))
    cut = settings.get("cut") or {}
    for what, side in (("prompts", "beginning"), ("completions", "end")):
        if count := cut.get(what, 0):
            warn(f"{count:,} {what} longer than the space reads; their {side} was left out")


def open_existing(dock: str | None) -> Dock:
    """A dock that is there already: reading commands make none."""
    from learndock.dock import open_dock

    return open_dock(dock, create=False)


def open_to_operate(dock: str | None, verb: str) -> LocalDock:
    """Open a dock for what only its operator can do; a served dock's files are those that its service needs.

    Raises:
        UsageError: ``dock`` is an address.
    """
    from learndock.dock import LocalDock
    from learndock.errors import UsageError

    opened = open_existing(dock)
    if not isinstance(opened, LocalDock):
        raise UsageError(
            f"only the operator of a dock can {verb} it, on the machine that has it",
            remedy="name its folder with --dock",
        )
    return with_referrers(opened)


def with_referrers(dock: LocalDock) -> LocalDock:
    """Let a dock ask the tables of the service that serves it, if one does, which files that needs."""
    if dock.storage.served:

        def ask() -> set[str]:
            from learndock.service.referrers import open_referrers

            return open_referrers(dock.folder)()

        dock.storage.referrers = ask
    return dock


def file_to_write(out: Path) -> Path:
    """Return ``out`` if a file can be put there: said before minutes of work, not after.

    Raises:
        UsageError: it is a folder, its folder is missing, or may not be written.
    """
    from learndock.errors import UsageError

    if out.is_dir():
        raise UsageError("is a folder", remedy="name a file in it", about=out)
    if not out.parent.is_dir():
        raise UsageError(f"its folder {out.parent} does not exist", remedy="make it first", about=out)
    if not os.access(out.parent, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise UsageError(f"its folder {out.parent} may not be written", remedy="name another place", about=out)
    return out


def new_file(out: Path, force: bool) -> Path:
    """Return ``out`` if predictions can be written there without losing a file.

    Raises:
        UsageError: its suffix is not one of a table, it cannot be written, or it exists and ``force`` is not given.
    """
    from learndock.errors import UsageError
    from learndock.reuse.answers import check_suffix

    check_suffix(file_to_write(out))
    if out.exists() and not force:
        raise UsageError("exists already", remedy="name another file, or replace it with --force", about=out)
    return out


@contextmanager
def learnware(which: str, dock: str | None) -> Iterator[Learnware]:
    """A learnware by its folder, or by its id in the dock (then verified and unpacked for the while).

    Raises:
        PackageError: a folder without a manifest.
        NotFound: neither a folder nor in the dock.
    """
    from learndock.errors import NotFound, PackageError
    from learndock.package import open_learnware
    from learndock.package.manifest import MANIFEST

    if which and os.path.isfile(os.path.join(which, MANIFEST)):  # noqa: PTH113, PTH118 - these never raise
        yield open_learnware(which)
        return
    try:
        opened = open_existing(dock)
        opened.get_record(which)
    except NotFound:
        if which and os.path.isdir(which):  # noqa: PTH112
            raise PackageError(
                f"no {MANIFEST} here", remedy="make a learnware with `learndock pack`", about=which
            ) from None
        raise
    with tempfile.TemporaryDirectory(prefix="learndock-") as folder, progress(f"fetching {which}") as bar:
        yield open_learnware(opened.get(which, Path(folder) / "learnware", progress=bar), verify=False)
