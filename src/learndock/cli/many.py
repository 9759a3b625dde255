"""Publish many learnwares: one that fails does not stop the others, and what is there already is skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learndock.cli import show

if TYPE_CHECKING:
    from learndock.dock.protocol import Dock, Record
    from learndock.errors import LearndockError


@dataclass(frozen=True)
class Outcome:
    """What became of one folder: ``state`` is added, there or failed."""

    folder: Path
    state: str
    record: Record | None = None
    error: LearndockError | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the failure as JSON."""
        assert self.error is not None
        return {
            "folder": str(self.folder),
            "error": type(self.error).__name__,
            "message": self.error.message,
            "remedy": self.error.remedy,
        }


def folders_of(source: Path) -> list[Path]:
    """Return the learnware folders in the folder ``source``, or those that the lines of the file ``source`` name.

    A line is relative to its file; empty ones and those that begin with # are passed over.

    Raises:
        UsageError: there are none.
    """
    from learndock.errors import UsageError
    from learndock.package.manifest import MANIFEST

    if source.is_file():
        try:
            lines = [line.strip() for line in source.read_text("utf-8").splitlines()]
        except UnicodeDecodeError:
            raise UsageError("is not text", remedy="write one folder per line", about=source) from None
        found = [source.parent / line for line in lines if line and not line.startswith("#")]
        remedy = "write one folder per line"
    else:
        found = sorted(p.parent for p in source.glob(f"*/{MANIFEST}"))
        remedy = "name the folder that contains their folders, or a file that lists them"
    if not found:
        raise UsageError("holds no learnware", remedy=remedy, about=source)
    return found


def publish_each(
    opened: Dock, folders: Sequence[Path], publish: Callable[[Path], Record], *, private: bool
) -> list[Outcome]:
    """Publish the learnwares one after another, and say what became of each.

    A service or a disk that is gone ends it: the others would fail in the same way.
    """
    from learndock.cli.outcome import of_system
    from learndock.errors import LearndockError, StorageFailed, StorageFull, Unauthorized, Unavailable

    found: list[Outcome] = []
    with show.progress(f"adding {show.counted(len(folders), 'learnware')}") as bar:
        for folder in folders:
            if bar is not None:
                bar(len(found), len(folders))
            try:
                there = _there(opened, folder, private=private)
                outcome = Outcome(folder, "added" if there is None else "there", there or publish(folder))
            except (Unavailable, Unauthorized, StorageFull, StorageFailed) as error:
                found.append(Outcome(folder, "failed", error=error))
                break
            except LearndockError as error:
                outcome = Outcome(folder, "failed", error=error)
            except OSError as error:
                outcome = Outcome(folder, "failed", error=of_system(error))
            found.append(outcome)
        if bar is not None:
            bar(len(folders), len(folders))
    return found


def _there(opened: Dock, folder: Path, *, private: bool) -> Record | None:
    """Return the version of a dock that has exactly this manifest; asks one question."""
    from learndock.errors import NotFound
    from learndock.package.manifest import MANIFEST, Manifest

    if not (folder / MANIFEST).is_file():
        return None
    manifest = Manifest.from_folder(folder)
    try:
        record = opened.get_record(manifest.id)
    except NotFound:
        return None
    return None if private and not record.private else record


def summarise(found: Sequence[Outcome], total: int) -> None:
    """Print a row for each learnware, and what is left to do."""
    rows = []
    for outcome in found:
        what = outcome.record.reference if outcome.record is not None else str(outcome.folder)
        rows.append((what, outcome.state, "" if outcome.error is None else str(outcome.error)))
    show.table(("learnware", "", ""), rows)
    counts = [f"{sum(o.state == state for o in found)} {state}" for state in ("added", "there", "failed")]
    if total > len(found):
        counts.append(f"{total - len(found)} not tried")
    show.say(", ".join(counts))
