"""Install a space: nothing is put in place before every hash was checked."""

from __future__ import annotations

import shutil
from pathlib import Path

from learndock.errors import SpaceError
from learndock.spaces.space import Space, get_space, read_space, user_spaces


def install_space(folder: str | Path, *, into: Path | None = None) -> Space:
    """Copy the space in ``folder`` to this user's spaces, after checking every file.

    Raises:
        SpaceError: no space there, or one of that name is installed already with another content.
        WeightsMissing, WeightsChanged: a file is not there, or not the published one.
    """
    space = read_space(Path(folder))
    target = (into or user_spaces()) / space.name
    if target.exists():
        if read_space(target).description == space.description:
            return get_space(target)
        raise SpaceError("another space of that name is installed", remedy="remove it first", about=target)
    part = target.with_name(f".{space.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for file in space.files:
            (part / file).write_bytes(space.read(file))
        shutil.copyfile(space.folder / "space.json", part / "space.json")
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return read_space(target)
