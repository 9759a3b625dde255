"""What people install: the wheel, made from the sdist, in an environment of its own, away from the source tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.docking import SCHEMA
from tests.support.tiny import TINY

ROOT = Path(__file__).parents[1]
MAX_MB = 8.0

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="compares with what git knows")


def hatch(folder: Path, target: str, out: Path) -> Path:
    """Build a wheel or an sdist of the project in ``folder``; returns the file."""
    command: list[str | Path] = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", out]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in the folder that LEARNDOCK_DIST names, or one that is built here."""
    if folder := os.environ.get("LEARNDOCK_DIST"):
        (built,) = Path(folder).glob("*.whl")
        return built.absolute()
    pytest.importorskip("hatchling")
    place = tmp_path_factory.mktemp("built")
    with tarfile.open(hatch(ROOT, "sdist", place / "sdist")) as archive:
        archive.extractall(place / "source", filter="data")
    (source,) = (place / "source").iterdir()
    return hatch(source, "wheel", place / "wheel")


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a command of an environment that has the wheel; what the wheel needs is that of the present one."""
    place = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
    python = place / "venv" / "bin" / "python"
    install: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "-q",
        "--python",
        python,
        "--disable-pip-version-check",
        "install",
    ]
    subprocess.run([*install, "--no-deps", "--no-index", wheel], check=True, capture_output=True)
    asked: list[str | Path] = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    # A line of a .pth file adds a folder, and not what that folder's own .pth files name: no editable install
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LEARNDOCK", "VIRTUAL"))}
    environment |= {"XDG_DATA_HOME": str(place / "data"), "LEARNDOCK_THREADS": "1", "COLUMNS": "200"}

    def run(name: str, *arguments: str | Path) -> str:
        command = [python.with_name(name), *arguments]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_wheel_holds_what_git_knows_of_the_package(wheel: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z", "src/learndock"], cwd=ROOT, check=True, capture_output=True)
    tracked = {name.removeprefix("src/") for name in listed.stdout.decode().split("\0") if name}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    inside = {name for name in names if ".dist-info/" not in name}
    assert {"learndock/py.typed", "learndock/spaces/published/minilm-l6/gradients.onnx"} <= inside
    assert inside == tracked
    assert {name.partition("/")[2] for name in names - inside} == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE",
    }  # fmt: skip
    assert wheel.stat().st_size < MAX_MB * 1e6


def test_it_is_imported_from_where_it_was_installed(run: Callable[..., str]) -> None:
    code = "import learndock; print(learndock.__file__, learndock.__version__, len(learndock.__all__))"
    file, version, names = run("python", "-c", code).split()
    assert "site-packages" in file
    assert not Path(file).is_relative_to(ROOT)
    assert version == "0.1.0"
    assert int(names) > 20


def test_the_command_makes_a_spec(run: Callable[..., str], tmp_path: Path) -> None:
    assert "Usage: learndock" in run("learndock", "--help")
    assert {"minilm-l6", "efficientnet-lite0", "smollm2-135m"} <= {
        s["name"] for s in json.loads(run("learndock", "spaces", "--json"))["spaces"]
    }
    rows = [{"text": f"a {label} film {i}", "label": label} for i in range(12) for label in ("good", "bad")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    made = run(
        "learndock", "spec", "task", tmp_path / "rows.jsonl", "--schema", tmp_path / "schema.json",
        "--space", TINY / "tiny", "-o", tmp_path / "task.spec", "--json",
    )  # fmt: skip
    assert json.loads(made)["space"] == "tiny"
    assert (tmp_path / "task.spec").stat().st_size > 1000
