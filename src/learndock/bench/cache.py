"""What was computed stays computed: arrays under the hash of everything that they depend on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.spec.spec import identity

Arrays = dict[str, NDArray[Any]]


class Cache:
    """A folder of ``.npz`` files. A run that was cut off goes on where it stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, kind: str, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """The arrays under ``key``, made where they are not there yet."""
        path = self.folder / f"{kind}-{identity(key)[:24]}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as found:
                return {name: found[name] for name in found.files}
        made = make()
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez(file, **made)  # type: ignore[arg-type]
        part.replace(path)
        return made
