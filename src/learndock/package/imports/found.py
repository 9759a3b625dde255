"""What an import found, and how its files come together in one folder."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from learndock.errors import PackageError, UnsafeModel
from learndock.package.front_matter import MAX_LINE, MAX_TAGS, decode_card, edited, read_front_matter
from learndock.package.manifest import CARD

#: Bytes of a YAML file that is read; parsing takes a second per 100 kB.
MAX_YAML = 256 << 10


@dataclass(frozen=True)
class Found:
    """A model as its source has it, in a ``folder`` that ``pack`` takes.

    ``license`` (None where the source says none), ``description`` and ``tags`` are in the folder's card too.
    ``remarks`` are what was left out, and what the owner should know.
    """

    folder: Path
    source: str
    license: str | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def with_card(self) -> Found:
        """Write what was found into the folder's card, whose own words count where the source says nothing.

        Raises:
            PackageError: the card's header cannot be read.
        """
        path = self.folder / CARD
        text = decode_card(path.read_bytes()) if path.is_file() else ""
        said = read_front_matter(text)
        found, remarks = _fitting(self.tags, MAX_TAGS - len(said.tags))
        text = edited(text, license=self.license, description=self.description or None, tags=found)
        said = read_front_matter(text)
        if text:
            path.write_text(text, encoding="utf-8", newline="")
        return replace(
            self,
            license=said.license,
            description=said.description or "",
            tags=said.tags,
            remarks=(*self.remarks, *remarks),
        )


def _fitting(tags: Sequence[str], room: int) -> tuple[list[str], list[str]]:
    """Those of ``tags`` that a card can hold, and a remark about the others."""
    fit = [t for t in dict.fromkeys(tags) if t.strip() and len(t) <= MAX_LINE and t.isprintable()][: max(room, 0)]
    lost = [t for t in dict.fromkeys(tags) if t not in fit]
    if not lost:
        return fit, []
    shown = ", ".join(repr(t[:40]) for t in lost[:3]) + (", ..." if len(lost) > 3 else "")
    return fit, [
        f"{len(lost)} tags are left out ({shown}): a card holds {MAX_TAGS} of {MAX_LINE} characters in one line"
    ]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, read without tags and aliases.

    Raises:
        PackageError: it is not one, or too large.
    """
    import yaml

    try:
        size = path.stat().st_size
        if size > MAX_YAML:
            raise PackageError(f"has {size:,} bytes; at most {MAX_YAML:,} are read", about=path)
        text = path.read_text(encoding="utf-8")
        # Aliases let a small file describe a huge value
        if any(isinstance(event, yaml.events.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise PackageError("has an alias (*), which is not read", remedy="write the value out", about=path)
        found = yaml.safe_load(text)
    except (OSError, yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise PackageError(f"cannot be read as YAML ({' '.join(str(error).split())[:200]})", about=path) from None
    if not isinstance(found, dict):
        raise PackageError("is not a list of KEY: VALUE", about=path)
    return found


def bring(source: Path, target: Path, *, within: Path) -> None:
    """Copy a file; a link is followed where it ends at a regular file below ``within``.

    Raises:
        UnsafeModel: it ends elsewhere, or is not a regular file.
        PackageError: it cannot be read.
    """
    try:
        real = source.resolve(strict=True)
        if not real.is_relative_to(within.resolve()):
            raise UnsafeModel(f"a link that leads out of {within}", remedy="put the file itself there", about=source)
        if not stat.S_ISREG(real.stat().st_mode):
            raise UnsafeModel("not a regular file", remedy="remove it", about=source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real, target)
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise PackageError(f"cannot be read ({why})", about=source) from None


def files_below(folder: Path) -> list[str]:
    """Every entry below ``folder`` that is not a folder, relative to it, sorted; links to folders are not followed."""
    found = []
    for place, _, names in os.walk(folder):
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in names]
    return sorted(found)


def text_of(value: Any, *, what: str, about: Path) -> str:
    """``value``, which a file says.

    Raises:
        PackageError: it is not a text.
    """
    if not isinstance(value, str) or not value.strip():
        raise PackageError(f"its {what} is not a text: {value!r}", about=about)
    return value.strip()
