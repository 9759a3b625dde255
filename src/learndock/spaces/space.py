"""A space: everything that must be equal for two specs to be comparable, as a folder of files.

    space.json         the description (hashed into the id) and where the weights come from (not hashed)
    features.onnx      inputs -> features
    gradients.onnx     inputs, directions -> per-example gradients in B at B = 0
    model.safetensors  the helper's weights   } beside the graphs, or wherever a source names them:
    tokenizer.json     how inputs become ids  } they are taken only if their SHA-256 is the published one

The graphs hold A and the objective; weights stay in the helper's own published file, pointed at by offset.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from learndock.errors import SpaceError
from learndock.notebook import html_table
from learndock.spaces.weights import FileSource, locate, read_checked

DEFAULT = "minilm-l6"
#: The space that is used if none is named, by the kind of the inputs.
DEFAULTS = {"text": DEFAULT, "image": "efficientnet-lite0", "generation": "smollm2-135m"}
SPACE_FILE = "space.json"
SPACE_FORMAT = 1
MAX_SPACE_BYTES = 4 << 20
#: Names of spaces and of their files: they become paths where a space is installed.
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, eq=False)
class Space:
    """A published space; get one with ``get_space``.

    ``description`` holds what is hashed into the space's id. ``external`` names the tensors of ``model.safetensors``
    that each graph takes (the graph says so too; this saves parsing it). ``sources`` says where each file that is not
    in the folder may be found. ``about`` is for people: the license, and where the helper comes from.
    """

    name: str
    folder: Path
    description: Mapping[str, Any]
    external: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, tuple[FileSource, ...]]
    about: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<Space {self.name}: {self.input}, {self.size} numbers in B>"

    def _repr_html_(self) -> str:
        rows = [
            ("name", self.name),
            ("inputs", self.input),
            ("width of the features", self.width),
            ("numbers in B", self.size),
            ("installed", "yes" if self.present() else "its weights are not on this machine"),
            *((str(key), str(value)) for key, value in self.about.items()),
        ]
        return html_table(("space", ""), rows)

    def describe(self, recipe: str) -> dict[str, Any]:
        """The description of specs made here by ``recipe``; its hash is their space id."""
        return {"name": self.name, **self.description, "recipe": recipe}

    @property
    def files(self) -> dict[str, str]:
        """File name -> published SHA-256."""
        return dict(self.description["files"])

    @property
    def input(self) -> str:
        """What inputs are: ``text``, ``image`` or ``generation`` (prompts and completions)."""
        return str(self.description["input"])

    @property
    def reads_descriptions(self) -> bool:
        """Return whether the helper reads text, so that label descriptions can be the head."""
        return bool(self.description["head"]["prototypes"] in ("embedding", "table"))

    @property
    def whitening(self) -> float | None:
        """How a head of class means is whitened (``heads.mean_prototypes``), or None."""
        found = self.description["head"].get("whitening")
        return None if found is None else float(found)

    @property
    def size(self) -> int:
        """Count of numbers in the parameter vector B."""
        return int(self.description["adapters"]["size"])

    @property
    def width(self) -> int:
        """Width of the helper's features."""
        return int(self.description["helper"]["width"])

    def find(self, file: str) -> Path | None:
        """Return where ``file`` is on this machine, unchecked; None if nowhere."""
        return locate(self.folder, file, self.sources.get(file, ()))

    def present(self) -> bool:
        """Return whether all files are on this machine (their hashes are checked when they are used)."""
        return all(self.find(f) is not None for f in self.files)

    def read(self, file: str) -> bytes:
        """Return the bytes of ``file``, after checking that its hash is the published one.

        Raises:
            WeightsMissing: it is nowhere; the message says how to get it.
            WeightsChanged: it is not the published file.
        """
        return read_checked(self.name, self.folder, file, self.files[file], self.sources.get(file, ()))

    @cached_property
    def center(self) -> NDArray[np.float32]:
        """The public mean feature ``(width,)`` that a domain is measured from."""
        from safetensors.numpy import load

        center: NDArray[np.float32] = load(self.read("center.safetensors"))["center"]
        return center


def search_path() -> list[Path]:
    """Return the folders that hold installed spaces, nearest first."""
    given = [Path(p) for p in os.environ.get("LEARNDOCK_SPACES", "").split(os.pathsep) if p]
    return [*given, user_spaces(), Path(__file__).parent / "published"]


def user_spaces() -> Path:
    """Return the folder into which spaces are installed."""
    return Path(platformdirs.user_data_dir("learndock")) / "spaces"


def list_spaces() -> list[Space]:
    """Return all installed spaces, the built-in ones included; of two with one name, the nearest in the search path.

    Raises:
        SpaceError: the folder of a space is broken.

    Example:
        >>> {"efficientnet-lite0", "minilm-l6", "smollm2-135m"} <= {space.name for space in learndock.list_spaces()}
        True
    """
    found: dict[str, Space] = {}
    for root in search_path():
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            if (folder / SPACE_FILE).is_file() and not folder.name.startswith("."):
                found.setdefault(folder.name, read_space(folder))
    return list(found.values())


def default_space(kind: str) -> str:
    """The name of the space for inputs of a kind (see ``Examples.kind``)."""
    return DEFAULTS[kind]


def get_space(name: str | Path | Space = DEFAULT) -> Space:
    """Return a space by its name or by its folder.

    The same name gives the same object again, so a helper is loaded once per process.

    Raises:
        SpaceError: there is no such space, or its folder is broken.

    Example:
        >>> learndock.get_space("minilm-l6")
        <Space minilm-l6: text, 110592 numbers in B>
    """
    if isinstance(name, Space):
        return name
    for folder in (Path(name), *(root / str(name) for root in search_path())):
        if _is_space(folder):
            found = (folder / SPACE_FILE).stat()
            return _kept_space(folder.absolute(), (found.st_ino, found.st_mtime_ns, found.st_size))
    known = ", ".join(s.name for s in list_spaces())
    raise SpaceError(
        f'no space "{name}"',
        remedy=f"installed: {known}. Author one with `learndock space build`, or pass the folder of one",
    )


@functools.lru_cache(maxsize=4)
def _kept_space(folder: Path, stamp: tuple[int, ...]) -> Space:
    """The space in ``folder`` whose description has this stamp."""
    return read_space(folder)


def _is_space(folder: Path) -> bool:
    # Unlike Path.is_file this says no, and does not raise, where a name is too long for the file system
    return os.path.isfile(folder / SPACE_FILE)  # noqa: PTH113


def read_space(folder: Path) -> Space:
    """Read ``folder/space.json``; loads no weights.

    Raises:
        SpaceError: not a space, or one of a format that this version does not know.
    """
    path = folder / SPACE_FILE
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_SPACE_BYTES + 1)
        if len(text) > MAX_SPACE_BYTES:
            raise SpaceError(f"more than {MAX_SPACE_BYTES} bytes, too many for a space's description", about=path)
        source = json.loads(text.decode("utf-8"))
        if source["space"] != SPACE_FORMAT:
            raise SpaceError(
                f"space format {source['space']!r} is not known here", remedy="update learndock", about=path
            )
        space = Space(
            name=source["name"],
            folder=folder,
            description=source["description"],
            external={f: tuple(v) for f, v in source["external"].items()},
            sources={f: tuple(FileSource(**s) for s in v) for f, v in source.get("sources", {}).items()},
            about=source.get("about", {}),
        )
        _check_names(space, path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SpaceError(f"not a readable space ({error!r})", about=path) from None
    return space


def _check_names(space: Space, path: Path) -> None:
    """Check that nothing in the file leads out of the folder, or makes Python import a package.

    Raises:
        SpaceError: a name that is not plain.
    """
    packages = [s.name for found in space.sources.values() for s in found if s.kind == "package"]
    odd = [n for n in (space.name, *space.files) if not PLAIN.fullmatch(n)]
    odd += [n for n in packages if not n.isidentifier()]
    if odd:
        raise SpaceError(f"{odd[0]!r} is not a plain name; this space is not to be trusted", about=path)
