"""How much the everyday install brings: a fresh environment with the core dependencies, weighed.

    python benchmarks/core_size.py [--source .]

Needs pip's package index. Prints JSON: bytes on disk with and without compiled ``__pycache__``, the sum of the
wheels, the largest packages, and how long ``import learndock`` takes there. pip itself is not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

TIMED = "import time; s = time.perf_counter(); import learndock; print(time.perf_counter() - s)"
NOT_OURS = ("pip", "setuptools", "wheel", "_distutils_hack", "pkg_resources", "distutils-precedence.pth")


def run(*command: str | Path) -> str:
    """Standard output of a command that must succeed."""
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def size(path: Path, *, compiled: bool) -> int:
    """Bytes below ``path``; without ``compiled``, none in ``__pycache__``."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file() and not p.is_symlink()]
    return sum(p.stat().st_size for p in files if compiled or "__pycache__" not in p.parts)


def main() -> None:
    """Install, weigh, print."""
    parser = argparse.ArgumentParser(description="Weigh the core install.")
    parser.add_argument("--source", type=Path, default=Path(__file__).resolve().parents[1])
    source = parser.parse_args().source.resolve()
    with tempfile.TemporaryDirectory() as work:
        venv, wheels = Path(work) / "venv", Path(work) / "wheels"
        run(sys.executable, "-m", "venv", venv)
        python = venv / "bin" / "python"
        pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
        run(*pip, "wheel", "--wheel-dir", wheels, source)
        run(*pip, "install", "--no-index", "--find-links", wheels, "learndock")
        site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").strip())
        parts = [p for p in site.iterdir() if not p.name.startswith(NOT_OURS)]
        largest = sorted(((size(p, compiled=False), p.name) for p in parts), reverse=True)[:8]
        found = {
            "packages": sorted(p.name.split("-")[0] for p in site.glob("*.dist-info") if not p.name.startswith("pip-")),
            "unpacked_bytes": sum(size(p, compiled=True) for p in parts),
            "unpacked_bytes_without_pycache": sum(size(p, compiled=False) for p in parts),
            "wheel_bytes": size(wheels, compiled=True),
            "learndock_wheel_bytes": sum(p.stat().st_size for p in wheels.glob("learndock-*.whl")),
            "largest": {name: count for count, name in largest},
            "import_seconds": min(float(run(python, "-c", TIMED)) for _ in range(5)),
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
