"""Models of a hub: a folder in the layout of the hub's cache, a plain model folder with its card, or a name.

    models--OWNER--NAME/refs/main               the revision that main was
    models--OWNER--NAME/snapshots/REVISION/     its files, as links into blobs/

The card comes along: its license, tags and base model stay in its header, its text below that of the learnware.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from learndock.errors import PackageError, UsageError
from learndock.package.extras import need
from learndock.package.imports.found import Found, bring, files_below

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?", re.ASCII)
_REVISION = re.compile(r"[\w.-]+", re.ASCII)
#: Where one of these is, the same weights in other formats are left out.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "model.onnx",
    "model.skops",
)
#: The same weights in a format that is refused, or that is another library's.
_OTHER = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot")


@contextmanager
def open_hub(source: str, *, revision: str | None = None) -> Iterator[Found]:
    """Bring the model at ``source`` into a temporary folder that ``pack`` takes.

    ``source`` is a folder or ``owner/name``, which is looked for in the hub's cache and then at the hub
    (``HF_ENDPOINT``). ``revision`` is a commit, branch or tag; by default ``main``.

    Raises:
        PackageError: there is no such model, or its card cannot be read.
        UnsafeModel: a link leads out of the folder.
        UsageError: a revision of a plain folder, or no name.
        MissingExtra: a name, and the hub's library is not installed.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        folder, within = _in_folder(path, revision)
    else:
        folder = _by_name(source, revision)
        within = folder.parent.parent
    with tempfile.TemporaryDirectory(prefix="learndock-") as work:
        target = Path(work) / "model"
        target.mkdir()
        kept, left = _chosen(files_below(folder))
        for name in kept:
            bring(folder / name, target / name, within=within)
        remarks = (f"left out: {', '.join(left)}",) if left else ()
        yield Found(target, source, remarks=remarks).with_card()


def _in_folder(path: Path, revision: str | None) -> tuple[Path, Path]:
    """The folder of the files, and the one that their links may not leave."""
    if not (path / "snapshots").is_dir():
        if revision is not None:
            raise UsageError("a plain folder has one revision", remedy="leave --revision out", about=path)
        cached = path.absolute().parent.name == "snapshots"
        return path, path.absolute().parent.parent if cached else path
    if not _REVISION.fullmatch(revision or "main") or ".." in (revision or ""):
        raise UsageError(f"{revision!r} is not a revision", remedy="give a commit, a branch or a tag", about=path)
    name = revision or "main"
    ref = path / "refs" / name
    commit = ref.read_text(encoding="utf-8", errors="replace").strip() if ref.is_file() else name
    folder = path / "snapshots" / commit
    if not _REVISION.fullmatch(commit) or ".." in commit or not folder.is_dir():
        there = sorted(p.name for p in (path / "snapshots").iterdir())
        raise PackageError(
            f"its cache has no revision {name}",
            remedy=f"--revision takes one of {', '.join(there[:5]) or 'none: nothing was fetched'}",
            about=path,
        )
    return folder, path


def _by_name(source: str, revision: str | None) -> Path:
    """The snapshot of a name: the cache's, or what the hub answers."""
    if not _NAME.fullmatch(source):
        raise PackageError("no such folder, and not owner/name", remedy="check the path", about=source)
    hub = need("huggingface_hub", extra="torch", why="a model by its name on a hub")
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    problem: BaseException | None = None
    for local in (True, False):
        how = {} if local else {"ignore_patterns": [f"*{suffix}" for suffix in _OTHER]}
        try:
            folder = Path(hub.snapshot_download(source, revision=revision, local_files_only=local, **how))
        except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
            problem = error
            continue
        if any((folder / name).exists() for name in _WEIGHTS) or any(folder.glob("*.gguf")):
            return folder
        problem = PackageError(f"has no weights that learndock reads ({', '.join(_WEIGHTS)}, or GGUF)")
    raise PackageError(
        f"no such folder, and no hub gives it ({' '.join(str(problem).split())[:200]})",
        remedy="check the name, and where HF_ENDPOINT points",
        about=source,
    )


def _chosen(names: list[str]) -> tuple[list[str], list[str]]:
    """Which files are taken, and which are left out: git's, and the same weights in formats that are not read."""
    whole = any(name in names for name in _WEIGHTS)
    left = []
    for name in names:
        path = PurePosixPath(name)
        hidden = any(part.startswith(".") for part in path.parts)
        if hidden or (whole and path.suffix.lower() in _OTHER):
            left.append(name)
    return [n for n in names if n not in left], [n for n in left if n != ".gitattributes"]
